"""The text of a request: chosen in a dialog that offers every kind of file the engine reads."""

from pathlib import Path

import pytest
from PySide6.QtWidgets import QFileDialog

from engine.request import TEXT_SUFFIXES, DataSpec
from gui.panes.text import TextPane


def test_a_file_or_a_folder_is_chosen(qtbot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pane = TextPane()
    qtbot.addWidget(pane)
    pane.set_needed(True)
    asked: list[tuple[str, str]] = []

    def file(parent: object, title: str, start: str, kinds: str) -> tuple[str, str]:
        asked.append((start, kinds))
        return str(tmp_path / "a.npy"), ""

    monkeypatch.setattr(QFileDialog, "getOpenFileName", file)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args: "")
    pane.choose_file()
    assert pane.spec() == DataSpec(source=str(tmp_path / "a.npy"))
    assert all(f"*{kind} *{kind.upper()}" in asked[0][1] for kind in TEXT_SUFFIXES)
    pane.choose_folder()  # and give it up
    pane.choose_file()
    assert pane.spec() == DataSpec(source=str(tmp_path / "a.npy"))
    assert asked[1][0] == str(tmp_path)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args: str(tmp_path))
    pane.choose_folder()
    assert pane.spec() == DataSpec(source=str(tmp_path))


def test_the_length_may_be_left_to_the_models(qtbot) -> None:
    pane = TextPane()
    qtbot.addWidget(pane)
    pane.set_needed(True)
    line = pane.form.editors["length"].widget
    assert line.placeholderText() == "what the models read"
    for text, length in (("", None), ("64", 64)):
        line.setText(text)
        assert pane.spec().length == length
    line.setText("0")
    assert not pane.form.valid
