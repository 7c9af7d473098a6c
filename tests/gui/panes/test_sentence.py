"""A sentence that is typed is drawn at once by the attention views, and nothing is kept of it."""

import json

import numpy as np
import pytest
from window_parts import answered, refused, window_in

from engine.errors import UserError
from engine.request import ModelSpec, Request
from engine.runs.jobs.attend import Attend
from engine.runs.jobs.job import Context
from engine.runs.jobs.run import CarryOut
from gui.panes.sentence import BUSY
from gui.plots.figure import Image, Points
from gui.views.attention.views import VIEWS

START_MS = 60_000


def marks(figure, kind):
    return [mark for row in figure.rows for panel in row for mark in panel.marks if isinstance(mark, kind)]


@pytest.fixture(scope="module")
def answer():
    """What the compute process answers for a sentence."""
    import torch

    from engine.runs.model_cache import ModelCache

    torch.set_num_threads(1)
    context = Context(ModelCache(), lambda: False)

    def run(text, source="builtin"):
        return Attend(ModelSpec(source=source), text, "cpu", 0).run(context, lambda _: None, lambda: False)

    yield run
    context.models.close()


@pytest.fixture
def window(qtbot, tmp_path, monkeypatch):
    """A window whose compute process is not there: what it would be asked is in `window.asked`."""
    with window_in(tmp_path) as made:
        made.asked = []
        monkeypatch.setattr(made.host, "ask", made.asked.append)
        made.model_pane.device.write("cpu")
        made.workspace.show_analysis("attention")
        yield made


def questions(window):
    return [job for job in window.asked if isinstance(job, Attend)]


def reply(window, dataset):
    """Answer the question that was asked last."""
    window.host.replied.emit(answered(questions(window)[-1], dataset))


def test_the_compute_process_answers_and_the_views_draw_it(qtbot, tmp_path):
    with window_in(tmp_path, compute=True) as window:
        window.model_pane.device.write("cpu")
        window.workspace.show_analysis("attention")
        panel, bar = window.workspace.panel, window.sentence
        panel.set_view("matrix")
        qtbot.keyClicks(bar.line, "The cat sat on the mat.")
        assert window.results.live is None  # typing is rested before anything is asked
        qtbot.waitUntil(lambda: window.results.live is not None, timeout=START_MS)
        live = window.results.live
        texts = [text for _, text in panel.figure_area.figure.rows[0][0].x.ticks]
        assert "".join(live.token.values[0, 0].tolist()) == "The cat sat on the mat."
        assert len(texts) == live.sizes["query"]
        assert "".join(texts) == "Thecatsatonthemat."
        assert f"{len(texts)} tokens" in bar.status.text()
        assert window.inspector.inspection.title == "Layer 0, head 0"
        assert window.document.session is None
        bar.line.clear()
        assert window.results.live is None
        assert panel.figure_area.figure.empty


def test_numbers_of_a_sentence_are_those_of_its_matrix(answer):
    for source in ("builtin", "builtin-encoder"):
        ds = answer("Spectra of attention are of many kinds.", source)
        matrix = ds.matrices.values[0, 1, 2, 0].astype(float)
        np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-5)
        sigma = np.linalg.svd(matrix, compute_uv=False)
        np.testing.assert_allclose(ds.singular_values.values[0, 1, 2, 0], sigma, atol=1e-5)
        assert float(ds.spectral_norm[0, 1, 2, 0]) == pytest.approx(sigma[0], rel=1e-5)
        assert json.loads(ds.attrs["models"])[0]["causal"] is (source == "builtin")


def test_views_draw_a_sentence_or_say_that_it_needs_a_run(answer):
    from gui.plots.selection import Selection

    ds = answer("The cat sat on the mat, and the dog lay on the rug.")
    drawn = {}
    for view in VIEWS:
        figure = view.draw(ds, Selection(layer=2, head=3), view.options())
        assert bool(figure.empty) != bool(figure.rows or figure.table)
        drawn[view.name] = figure
    for name in ("matrix", "eigenvalues", "singular", "layers"):
        assert marks(drawn[name], Image | Points), name
    for name in ("norms", "laws", "sweep"):
        assert "run the analysis" in drawn[name].empty


def test_what_cannot_be_read_is_one_sentence(answer):
    with pytest.raises(UserError, match=r"^There is no text to look at\. Type a word or a sentence\.$"):
        answer("   ")
    with pytest.raises(UserError, match="nowhere"):
        answer("text", "/nowhere")


def test_typing_asks_once_it_rests_and_the_latest_text_wins(qtbot, window, answer):
    bar = window.sentence
    qtbot.keyClicks(bar.line, "one")
    qtbot.waitUntil(lambda: len(questions(window)) == 1, timeout=5000)
    qtbot.keyClicks(bar.line, " two")
    qtbot.keyClicks(bar.line, " three")
    qtbot.wait(400)
    assert [job.text for job in questions(window)] == ["one"]  # one question at a time
    reply(window, answer("one"))
    assert [job.text for job in questions(window)] == ["one", "one two three"]
    reply(window, answer("one two three"))
    assert window.results.live.sample_text.item() == "one two three"
    assert bar.status.text().startswith("builtin, ")
    bar.ask()
    window.host.replied.emit(refused(questions(window)[-1], "It cannot be read.", "at token 3"))
    assert window.messages.details.toPlainText() == "at token 3"
    assert bar.status.text() == "It cannot be read."
    assert bar.status.property("role") == "problem"


def test_while_a_run_goes_on_it_says_so_and_asks_after(qtbot, window, tmp_path):
    row = window.runs.add(tmp_path, Request(analysis="weights", models=(ModelSpec(source="builtin"),)))
    assert window.runs.busy
    window.workspace.show_analysis("attention")
    window.sentence.line.setText("a sentence")
    window.sentence.ask()
    assert window.sentence.status.text() == BUSY
    assert not questions(window)
    (run,) = [job for job in window.asked if isinstance(job, CarryOut)]
    assert run.id == row.job
    window.host.replied.emit(refused(run, "It failed."))
    assert [job.text for job in questions(window)] == ["a sentence"]


def test_another_analysis_or_run_takes_the_place_of_the_sentence(window, answer):
    window.sentence.line.setText("The cat sat.")
    window.sentence.ask()
    reply(window, answer("The cat sat."))
    assert window.results.live is not None
    window.workspace.show_analysis("weights")
    assert window.results.live is None
    assert window.workspace.analysis == "weights"
    assert window.sentence.line.text() == ""
    reply(window, answer("The cat sat."))  # one that comes late does not take the window back
    assert window.results.live is None
    window.workspace.show_analysis("attention")
    window.sentence.line.setText("The dog sat.")
    window.sentence.ask()
    window.workspace.show_analysis("weights")
    reply(window, answer("The dog sat."))
    assert window.results.live is None
    window.model_pane.source.setCurrentText("")
    window.workspace.show_analysis("attention")
    window.sentence.line.setText("The cat")
    window.sentence.ask()
    assert "No model is named" in window.sentence.status.text()
