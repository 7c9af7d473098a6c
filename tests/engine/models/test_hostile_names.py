"""Names of models that no file can have, and tokenizers that panic: one sentence each, whoever asks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from opening_models import copy, edit_config, edit_weights, pristine, refusal

from engine.errors import UserError
from engine.models import checks
from engine.models.opening import describe, open_model
from engine.models.source import checkpoints
from engine.request import ModelSpec
from main import main

SOURCES = [
    "x" * 5000,
    "/" + "x" * 5000,
    "a/" * 3000,
    "/a\0b",
    "a\0b",
    "~nobody-of-this-name/model",
    "\ud800",
    "/\ud800/x",
    "/\udc80",
    "\x1b[2J",
    ".",
    "a//b",
    "http://example.org/model",
]


@pytest.mark.parametrize("source", SOURCES, ids=range(len(SOURCES)))
def test_a_name_that_no_model_can_have(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(source)
    assert message.isprintable()
    assert len(message) < 1300
    assert refusal(source, twin=True)
    assert refusal(source, revision=source)
    if source != ".":
        with pytest.raises(UserError):
            checkpoints(source)


@pytest.mark.parametrize("source", ["x" * 5000, "/" + "x" * 5000, "/\udc80", "/\x1b[2J"], ids=range(4))
def test_the_command_line_prints_one_line(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "weights", "--model", source, "--out", str(tmp_path / "a.eigenscope")]) != 0
    printed = capsys.readouterr().err
    assert printed.encode()
    assert "\x1b" not in printed
    assert "Traceback" not in printed


def test_folders_beside_each_other_may_have_any_names(tmp_path: Path) -> None:
    for name in ("step²", "step10", "step9", "١٢", "step" + "9" * 200):
        copy(pristine(), tmp_path / name)
        assert describe(ModelSpec(source=str(tmp_path), revision=name)).n_layers == 3
    assert checkpoints(str(tmp_path)).index("step9") < checkpoints(str(tmp_path)).index("step10")


@pytest.mark.parametrize("name", ["\x1b[2J", "x" * 100_000, "\u202eabc", "a\nb"])
def test_names_inside_a_model_can_be_printed(name: str, tmp_path: Path) -> None:
    folder = copy(pristine(), tmp_path / "model")
    edit_config(folder, architectures=[name])
    assert refusal(folder).isprintable()
    edit_config(folder, architectures=None, model_type=name)
    assert refusal(folder).isprintable()
    edit_config(folder, model_type="gpt2")
    edit_weights(folder, lambda tensors: tensors.update({name: torch.ones(1)}))
    assert refusal(folder).isprintable()
    assert len(refusal(folder)) < 1300


# Each of these makes the library in Rust panic, when it is read or when it is used.
PANICS: dict[str, dict[str, Any]] = {
    "a normaliser without a table": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    "a merge longer than its token": {
        "model": {"type": "BPE", "vocab": {"a": 0, "é": 1, "aé": 2}, "merges": [["a", "é"]]}
        | {"continuing_subword_prefix": "é###"}
    },
    "a stride as long as a text": {
        "truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 5}
    },
    "a frame of tokens that are not there": {
        "post_processor": {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}
        | {"single": [{"SpecialToken": {"id": "X", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}
    },
}


@pytest.mark.parametrize("case", PANICS)
def test_a_tokenizer_that_panics_is_a_notice(case: str, tmp_path: Path) -> None:
    folder = copy(pristine(), tmp_path / "model")
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(content | PANICS[case]))
    model = open_model(ModelSpec(source=str(folder)))
    assert model.block(0)
    with pytest.raises(UserError, match=r"token ids \(a \.npy file\)") as caught:
        model.tokenizer()
    assert caught.value.message in model.info.notices


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RecursionError(), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"), OSError(36, "too long")],
)
def test_whatever_escapes_from_opening_is_one_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(checks, "read_config", raising)
    message = refusal(pristine())
    assert "cannot be opened" in message
