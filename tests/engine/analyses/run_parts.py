"""How tests of analyses ask for a run and carry it out."""

from pathlib import Path
from typing import Any

import torch
import transformers as hf
from opening_models import tokenizer_of

from engine import events
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.loop import execute, start
from engine.sessions.store import Run, Session


def save_llama(folder: Path, *, width: int, layers: int, uneven_norms: bool = True) -> Path:
    """Save a Llama with grouped heads whose weights, and gains of norms, are far from their first values."""
    torch.manual_seed(0)
    config = hf.LlamaConfig(
        hidden_size=width, intermediate_size=40, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=60, max_position_embeddings=64, initializer_range=0.3, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    module = hf.LlamaForCausalLM(config)
    for name, parameter in module.named_parameters() if uneven_norms else ():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    module.save_pretrained(folder)
    tokenizer_of(60).save_pretrained(folder)
    return folder


def request_of(analysis: str, *models: Path, data: DataSpec | None, twin: bool = False, **params: Any) -> Request:
    """A request for models in float64, on the CPU; with `twin`, the first one's random twin comes last."""
    specs = [ModelSpec(source=str(model), dtype="float64") for model in models]
    specs += [specs[0].model_copy(update={"twin": True})] if twin else []
    return Request(analysis=analysis, params=params, models=tuple(specs), data=data, device="cpu")


def go_on(session: Session, run: Run, stop_after: int | None = None) -> events.Event:
    """Carry a run on, as a new process would, until so many units of it are committed; its last event."""
    seen: list[events.Event] = []
    execute(session, run, seen.append, lambda: stop_after is not None and len(run.committed()) >= stop_after)
    assert not isinstance(seen[-1], events.Failed), seen[-1].detail or seen[-1].message
    return seen[-1]


def carried_out(session: Session, request: Request) -> Run:
    """A new run of `request`, finished."""
    run = start(session, request)
    assert isinstance(go_on(session, run), events.Finished)
    return run


def failure(session: Session, request: Request) -> str:
    """The sentence with which a run of `request` fails once it has begun."""
    run, seen = start(session, request), list[events.Event]()
    execute(session, run, seen.append, lambda: False)
    assert isinstance(seen[-1], events.Failed), seen[-1]
    return seen[-1].message
