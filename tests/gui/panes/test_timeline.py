"""The timeline plays the checkpoints of the shown dataset in the order of training, and knows which belong together."""

import numpy as np
import pytest
import xarray as xr
from PySide6.QtCore import QObject, Qt, Signal
from session_examples import INFO, models_attr

from engine.models.info import ModelInfo
from engine.request import ModelSpec, Request
from gui.panes.timeline import Timeline
from gui.plots.selection import Selection
from gui.state.selection import SelectionModel
from gui.views.trajectories.checkpoint_series import Models, names


def info(revision: str | None, step: int | None, twin: bool = False, layers: int = 6, source: str = "m") -> ModelInfo:
    label = f"{source}@{revision}{' (random twin)' if twin else ''}"
    own = {"label": label, "source": source, "revision": revision, "twin": twin, "step": step, "n_layers": layers}
    return INFO.model_copy(update=own | {"n_heads": 3, "d_model": 8, "d_head": 4})


def dataset(*infos: ModelInfo) -> xr.Dataset:
    return xr.Dataset(attrs={"models": models_attr(infos)})


TRAINING = dataset(
    info("step100", 100), info("step0", 0), info("step20", 20), info("step100", None, twin=True), info("final", None)
)


class Shown(QObject):
    """Stands for Results."""

    shown = Signal()

    def __init__(self, dataset: xr.Dataset | None) -> None:
        super().__init__()
        self.dataset = dataset

    def show(self, dataset: xr.Dataset | None) -> None:
        self.dataset = dataset
        self.shown.emit()


@pytest.fixture
def results(qapp):
    return Shown(TRAINING)


@pytest.fixture
def selection(qapp):
    return SelectionModel()


@pytest.fixture
def timeline(qtbot, selection, results):
    made = Timeline(selection, results)
    qtbot.addWidget(made)
    return made


def test_models_are_played_in_the_order_of_their_steps(timeline, selection):
    assert timeline.frames == [4, 1, 2, 0]
    selection.set(Selection(model=1, layer=3))
    assert timeline.label.text() == "step 0   2 of 4"
    seen = []
    for _ in range(4):
        timeline._player.timeout.emit()
        seen.append(selection.current.model)
    assert seen == [2, 0, 4, 1], "round and round"
    assert selection.current.layer == 3


def test_without_the_loop_it_stops_at_the_end_and_begins_anew(timeline, selection):
    timeline.loop.setChecked(False)
    selection.set(Selection(model=0))
    timeline.play()
    assert timeline.playing
    assert selection.current.model == 4, "played from the start"
    timeline.last()
    timeline._player.timeout.emit()
    assert not timeline.playing
    timeline.play()
    timeline.play()
    assert not timeline.playing


def test_dragging_selects_once_for_each_turn_of_the_event_loop(qtbot, timeline, selection):
    seen = []
    selection.changed.connect(seen.append)
    for at in (0, 1, 2):
        timeline.slider.setValue(at)
    assert seen == []
    qtbot.waitUntil(lambda: bool(seen))
    assert [one.model for one in seen] == [2]


def test_buttons_keys_and_ends(qtbot, timeline, selection):
    timeline.first()
    timeline.previous()
    assert selection.current.model == 4
    timeline.next()
    assert selection.current.model == 1
    qtbot.keyClick(timeline.slider, Qt.Key.Key_End)
    qtbot.waitUntil(lambda: selection.current.model == 0)
    timeline.speed.setCurrentText("fast")
    assert timeline._player.interval() < 500


def test_it_is_there_only_for_several_models(timeline, results):
    assert not timeline.isHidden()
    timeline.play()
    results.show(dataset(info("step0", 0)))
    assert timeline.isHidden()
    assert not timeline.playing
    results.show(dataset(info("step0", 0), info("step0", None, twin=True)))
    assert not timeline.isHidden(), "a model and its twin can be compared by it"
    results.show(None)
    assert timeline.isHidden()


def test_a_single_twin_leaves_the_slider_to_the_checkpoints(timeline, selection):
    selection.set(Selection(model=3))
    assert timeline.frames == [4, 1, 2, 0]
    assert timeline.label.text() == "m@step100 (random twin)"


def test_a_course_has_the_checkpoints_with_a_step(results):
    checkpoints = Models.of(TRAINING).checkpoints(0)
    assert checkpoints.models == (1, 2, 0)
    assert checkpoints.known
    np.testing.assert_array_equal(checkpoints.steps, [0, 20, 100])
    assert names(checkpoints.labels) == ("step0", "step20", "step100")


def test_other_architectures_and_trainings_are_not_connected_and_named():
    models = Models.of(dataset(info("a", 1), info("b", 2), info("c", 3, layers=2), info("d", 4, source="other")))
    checkpoints = models.checkpoints(0)
    assert checkpoints.models == (0, 1)
    assert "another architecture: m@c" in checkpoints.note()
    assert "another training: other@d" in checkpoints.note()
    assert models.frames(0) == [0, 1, 2, 3]


def test_folders_side_by_side_are_one_training_and_seeds_are_not():
    folders = dataset(*(info(None, step, source=f"/runs/one/checkpoint-{step}") for step in (20, 10)))
    assert Models.of(folders).checkpoints(0).models == (1, 0)
    request = Request(analysis="weights", models=(ModelSpec(seed=0), ModelSpec(seed=1)))
    seeded = dataset(info("a", 1), info("a", 1)).assign_attrs(request=request.model_dump_json())
    assert Models.of(seeded).checkpoints(0).models == (0,)


def test_without_steps_the_order_of_the_request_counts():
    checkpoints = Models.of(dataset(info("x", None), info("y", None))).checkpoints(1)
    assert (checkpoints.models, checkpoints.known) == ((0, 1), False)
