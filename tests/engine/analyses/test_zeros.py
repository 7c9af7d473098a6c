"""Heads of zeros, as pruning leaves them: what is undefined is NaN or a sentence, and no library warns of it."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from engine.events import Finished
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.loop import execute, start
from engine.sessions.store import Session

PARAMS = {"weights": {"null_draws": 200}, "attention": {}, "activations": {}}


def zeroed(folder: Path, what: str) -> Path:
    torch.manual_seed(0)
    made = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=32, n_positions=32))
    with torch.no_grad():
        if what == "everything":
            for parameter in made.parameters():
                parameter.zero_()
        else:
            attention = made.transformer.h[0].attn
            for part in range(3):
                attention.c_attn.weight[:, 16 * part : 16 * part + 8] = 0
            attention.c_proj.weight[:8] = 0
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("analysis", "what"), [("weights", "one head"), ("attention", "everything"), ("activations", "everything")]
)
def test_undefined_is_nan_and_nobody_warns(analysis: str, what: str, tmp_path: Path) -> None:
    model = zeroed(tmp_path / "model", what)
    np.save(tmp_path / "ids.npy", np.random.default_rng(0).integers(0, 32, (40, 16)))
    request = Request(
        analysis=analysis,
        params=PARAMS[analysis],
        models=(ModelSpec(source=str(model)),),
        data=None if analysis == "weights" else DataSpec(source=str(tmp_path / "ids.npy"), samples=6, length=16),
        device="cpu",
    )
    with Session.create(tmp_path / "a.eigenscope") as session, warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        run = start(session, request)
        end = execute(session, run, lambda _: None, lambda: False)
        assert isinstance(end, Finished), end
        result = run.result()
    assert result is not None
    assert " nan" not in f"{result.attrs['notes']}{result.attrs.get('claims', '')}"
    if analysis == "weights":
        for name in ("outside_naive", "outside_law", "ov_outside_law", "p_leading"):
            assert np.isnan(result[name].values[0, 0, 0]), name
