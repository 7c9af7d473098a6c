"""The Model pane: what it asks for, what it shows, and what it says about a model that cannot be opened."""

import pytest
from PySide6.QtWidgets import QDialog, QListWidget, QMenu
from window_parts import answered, refused, window_in

from engine.models.info import ModelInfo
from engine.request import ModelSpec, Request
from gui.panes import model
from gui.panes.model import ModelPane

INFO = ModelInfo(
    label="tiny", source="tiny", revision=None, twin=False, architecture="GPT2LMHeadModel", family="gpt2", causal=True,
    n_layers=3, d_model=32, n_heads=4, n_kv_heads=2, d_head=8, vocab_size=64, context=16, n_parameters=12_345_678,
    storage_dtype="bfloat16", norm="layernorm", rotary=False, qk_norm=False, identity="x", load_bytes=1000,
    notices=("No tokenizer came with it.",),
)  # fmt: skip


@pytest.fixture
def model_pane(qtbot):
    made = ModelPane()
    qtbot.addWidget(made)
    made.source.setCurrentText("tiny")
    return made


def test_it_makes_the_specs_that_it_shows(qtbot, tmp_path):
    with window_in(tmp_path) as window:
        qtbot.waitSignal(window.ready, timeout=20_000).wait()
        model_pane = window.model_pane
        model_pane.source.setCurrentText("builtin")
        model_pane.revisions.setText("step0, step64, step0")
        model_pane.twin.setChecked(True)
        model_pane.dtype.write("bfloat16")
        specs = model_pane.specs()
        assert [(s.revision, s.twin) for s in specs] == [("step0", False), ("step64", False), ("step64", True)]
        assert {s.dtype for s in specs} == {"bfloat16"}
        request = window.run_commands.request()
        model_pane.source.setCurrentText("gpt2")
        model_pane.revisions.clear()
        model_pane.twin.setChecked(False)
        model_pane.set_request(request)
        assert model_pane.specs() == request.models


def test_without_a_model_a_run_is_refused_in_a_sentence(qtbot, tmp_path):
    with window_in(tmp_path) as window:
        qtbot.waitSignal(window.ready, timeout=20_000).wait()
        window.model_pane.source.setCurrentText("  ")
        window.run_commands.run()
        assert "No model is named" in window.messages.text.text()
        assert window.runs.rows == []


def ask(model_pane):
    """Ask for the facts of what the fields name; returns the job."""
    asked = []
    model_pane.inspect.connect(asked.append)
    model_pane.ask_facts()
    model_pane.inspect.disconnect(asked.append)
    return asked[0]


def test_facts_are_asked_for_when_typing_has_stopped(qtbot, model_pane):
    asked = []
    model_pane.inspect.connect(asked.append)
    model_pane.source.setCurrentText("g")
    model_pane.source.setCurrentText("gpt2")
    qtbot.waitUntil(lambda: bool(asked), timeout=5000)
    assert [job.spec for job in asked] == [ModelSpec(source="gpt2")]


def test_the_facts_are_shown(model_pane):
    model_pane.handle_reply(answered(ask(model_pane), INFO))
    text = model_pane.facts.text()
    assert "Can do: weights, jacobians, activations, gradients, attention, communities." in text
    assert "3 layers × 4 heads (2 key/value), d = 32, d_h = 8" in text
    assert "12.3 M parameters, stored as bfloat16" in text
    assert model_pane.notices.text() == "No tokenizer came with it."


def test_a_refusal_is_shown_and_leaves_no_facts(model_pane):
    model_pane.handle_reply(answered(ask(model_pane), INFO))
    model_pane.handle_reply(refused(ask(model_pane), "It holds a NaN in wte."))
    assert model_pane.facts.text() == "It holds a NaN in wte."
    assert model_pane.info is None
    assert model_pane.notices.isHidden()
    assert model_pane.details.isHidden()


def test_the_details_of_a_refusal_are_one_click_away(qtbot, tmp_path):
    with window_in(tmp_path) as window:
        qtbot.waitSignal(window.ready, timeout=20_000).wait()
        window.model_pane.handle_reply(refused(ask(window.model_pane), "It holds a NaN.", "wte, row 3"))
        window.model_pane.details.click()
        assert window.messages.text.text() == "It holds a NaN."
        assert window.messages.details.toPlainText() == "wte, row 3"
        assert window.messages.details.isVisible()
        ask(window.model_pane)
        assert window.model_pane.details.isHidden()


def test_an_answer_about_another_model_is_dropped(model_pane):
    job = ask(model_pane)
    dropped = []
    model_pane.dropped.connect(dropped.append)
    model_pane.source.setCurrentText("other")
    assert dropped == [job.id], "the process need not go on with it"
    model_pane.handle_reply(answered(job, INFO))
    assert model_pane.info is None
    ask(model_pane)
    model_pane.handle_reply(answered(job, INFO))
    assert model_pane.info is None


def test_checkpoints_are_chosen_from_a_list(model_pane, monkeypatch):
    def pick(dialog: QDialog) -> int:
        listing = dialog.findChild(QListWidget)
        assert [listing.item(i).isSelected() for i in range(3)] == [True, False, False]
        for row in (1, 2):
            listing.item(row).setSelected(True)
        return 1

    monkeypatch.setattr(QDialog, "exec", pick)
    model_pane.revisions.setText("step0")
    model_pane.choose_checkpoints(("step0", "step16", "step64"))
    assert model_pane.revisions.text() == "step0, step16, step64"


def test_models_of_the_user_are_offered_after_the_built_in_ones(model_pane):
    model_pane.set_recent_models(["gpt2", "builtin", "/data/mine"])
    offered = [model_pane.source.itemText(i) for i in range(model_pane.source.count())]
    assert offered == ["builtin", "builtin-encoder", "gpt2", "/data/mine"]
    assert model_pane.source.currentText() == "tiny"


def test_a_gguf_file_or_a_folder_is_chosen(model_pane, monkeypatch, tmp_path):
    chosen = {"getExistingDirectory": str(tmp_path), "getOpenFileName": (str(tmp_path / "tiny.gguf"), "")}
    started = []
    for name, answer in chosen.items():
        monkeypatch.setattr(
            model.QFileDialog, name, lambda parent, title, start, *more, answer=answer: started.append(start) or answer
        )
    folder, file = next(menu for menu in model_pane.findChildren(QMenu)).actions()
    folder.trigger()
    assert model_pane.specs()[0].source == str(tmp_path)
    file.trigger()
    assert model_pane.specs()[0].source == str(tmp_path / "tiny.gguf")
    assert started[1] == str(tmp_path)


def test_an_adapter_has_a_base_which_can_be_added(model_pane, tmp_path):
    model_pane.show()
    assert not model_pane.base.isVisible()
    model_pane.base.setText("other")
    assert model_pane.specs()[0].base is None
    (tmp_path / "adapter_config.json").write_text("{}")
    model_pane.source.setCurrentText(str(tmp_path))
    assert model_pane.base.isVisible()
    model_pane.with_base.setChecked(True)
    specs = model_pane.specs()
    assert [(spec.source, spec.base) for spec in specs] == [("other", None), (str(tmp_path), "other")]
    assert ask(model_pane).spec == specs[1]
    request = Request(analysis="weights", models=specs)
    model_pane.source.setCurrentText("tiny")
    model_pane.with_base.setChecked(False)
    model_pane.set_request(request)
    assert model_pane.specs() == specs
    model_pane.base.clear()
    assert [spec.source for spec in model_pane.specs()] == [str(tmp_path)]
    job = ask(model_pane)
    model_pane.handle_reply(answered(job, INFO.model_copy(update={"base": "named/base"})))
    assert [(spec.source, spec.base) for spec in model_pane.specs()] == [
        ("named/base", None),
        (str(tmp_path), "named/base"),
    ]


def test_what_the_model_cannot_have_is_said_and_does_not_run(qtbot, tmp_path):
    lacking = INFO.model_copy(update={"lacks": {"loss": "It has no head."}})
    with window_in(tmp_path) as window:
        qtbot.waitSignal(window.ready, timeout=20_000).wait()
        model_pane, parameters = window.model_pane, window.parameters
        model_pane.source.setCurrentText("tiny")
        model_pane.handle_reply(answered(ask(model_pane), lacking))
        assert "Cannot do gradients: It has no head." in model_pane.facts.text()
        assert parameters.button.isEnabled()
        window._show_form("gradients")
        assert not parameters.button.isEnabled()
        assert parameters.obstacle.text() == parameters.button.toolTip() == "It has no head."
        window._show_form("weights")
        assert parameters.button.isEnabled()
        assert not parameters.obstacle.text()
