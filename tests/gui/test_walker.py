"""Walking and playing stay inside the dataset that is shown."""

import json

import pytest
import xarray as xr
from PySide6.QtCore import QObject

from gui.selection import Selection, SelectionModel
from gui.walker import Walker


class Shown(QObject):
    """Stands for Results: four models, the second and the last of them twins, of different depth."""

    def __init__(self) -> None:
        super().__init__()
        shapes = [(False, 6), (True, 6), (False, 2), (True, 2)]
        infos = [{"twin": twin, "n_layers": layers, "n_heads": 3} for twin, layers in shapes]
        self.dataset = xr.Dataset(attrs={"models": json.dumps(infos)})


@pytest.fixture
def walker(qapp):
    walker = Walker(SelectionModel(), Shown())
    walker.selection = walker._selection
    yield walker
    walker._player.stop()


def test_playing_shows_models_of_one_kind_round_and_round(walker):
    walker.selection.set(Selection(model=0, layer=5))
    seen = []
    for _ in range(3):
        walker._player.timeout.emit()
        seen.append(walker.selection.current)
    assert [selection.model for selection in seen] == [2, 0, 2]
    assert seen[0].layer == 1, "a shallower model is shown at its last layer"


def test_twins_follow_twins(walker):
    walker.selection.set(Selection(model=1))
    walker._player.timeout.emit()
    assert walker.selection.current.model == 3


def test_play_starts_stops_and_ends_with_its_dataset(walker, qtbot):
    walker.play()
    assert walker._player.isActive()
    walker.play()
    assert not walker._player.isActive()
    walker.play()
    walker._results.dataset = None
    walker._player.timeout.emit()
    assert not walker._player.isActive()


def test_steps_stop_at_the_edges(walker):
    walker.selection.set(Selection(model=2, layer=1, head=2))
    walker.next_layer()
    walker.next_head()
    assert walker.selection.current == Selection(model=2, layer=1, head=2)
