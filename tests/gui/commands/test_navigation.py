"""Walking stays inside the dataset that is shown."""

import pytest
import xarray as xr
from PySide6.QtCore import QObject
from session_examples import INFO, models_attr

from gui.commands.navigation import Navigation
from gui.plots.selection import Selection
from gui.state.selection import SelectionModel


class Shown(QObject):
    """Stands for Results: four models, the second and the last of them twins, of different depth."""

    def __init__(self) -> None:
        super().__init__()
        shapes = [(False, 6), (True, 6), (False, 2), (True, 2)]
        infos = [INFO.model_copy(update={"twin": twin, "n_layers": layers, "n_heads": 3}) for twin, layers in shapes]
        self.dataset = xr.Dataset(attrs={"models": models_attr(infos)})


@pytest.fixture
def navigation(qapp):
    navigation = Navigation(SelectionModel(), Shown())
    navigation.selection = navigation._selection
    return navigation


def test_steps_stop_at_the_edges(navigation):
    navigation.selection.set(Selection(model=2, layer=1, head=2))
    navigation.next_layer()
    navigation.next_head()
    assert navigation.selection.current == Selection(model=2, layer=1, head=2)


def test_results_with_sites_are_walked_by_site(navigation):
    navigation._results.dataset = navigation._results.dataset.assign_coords(site=["ln1", "block", "final_norm"])
    navigation.next_head()
    assert navigation.selection.current == Selection(site=2)
    navigation.next_head()
    navigation.previous_head()
    assert navigation.selection.current == Selection(site=1)
    navigation.previous_head()
    navigation.previous_head()
    navigation.next_layer()
    assert navigation.selection.current == Selection(layer=1, site=0)
    navigation.selection.set(Selection(site=7))
    navigation.selection.clamp(navigation._results.dataset)
    assert navigation.selection.current.site == -1
