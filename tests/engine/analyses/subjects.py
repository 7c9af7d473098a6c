"""What the battery examines: each analysis with small parameters, on tiny models of several families."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import pytest
import torch
import transformers as hf
import xarray as xr
from opening_models import tokenizer_of
from run_parts import carried_out, request_of

from engine.analyses.base import AnyAnalysis, Params, unit_rng
from engine.analyses.header import assemble
from engine.analyses.parameters import validate
from engine.analyses.registry import get_analysis
from engine.models.opening import OpenModel, open_model
from engine.request import DataSpec, ModelSpec, Request
from engine.sessions.store import Run, Session

VOCAB, CONTEXT, LENGTH = 60, 32, 8
IDS = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "initializer_range": 0.3}
SMALL, LARGE, ENCODER, UNEVEN = "gpt2", "llama", "bert", "gemma4"
FAMILIES: dict[str, Callable[[], hf.PreTrainedModel]] = {
    SMALL: lambda: hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=CONTEXT, **IDS)),
    LARGE: lambda: hf.LlamaForCausalLM(
        hf.LlamaConfig(
            hidden_size=20, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            head_dim=10, max_position_embeddings=CONTEXT, **IDS,
        )
    ),
    ENCODER: lambda: hf.BertForMaskedLM(
        hf.BertConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=CONTEXT, **IDS,
        )
    ),
    # As Gemma 4 E4B: two widths of heads, shared keys and values, inputs of the tokens to each layer.
    UNEVEN: lambda: hf.Gemma4ForCausalLM(
        hf.Gemma4TextConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
            head_dim=6, global_head_dim=8, layer_types=["sliding_attention", *["full_attention"] * 2], sliding_window=6,
            num_kv_shared_layers=1, hidden_size_per_layer_input=4, vocab_size_per_layer_input=VOCAB,
            use_double_wide_mlp=True, max_position_embeddings=CONTEXT, **IDS,
        )
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What the battery has to know of one analysis beyond its declaration; the defaults do for a quick one.

    Parameters
    ----------
    params : mapping
        Where the defaults are too much for a tiny model.
    samples : int
        Of the text; some analyses divide many samples into units.
    constants : mapping
        Of the engine's modules, by their full names: values with which a tiny run is quick and has several units.
    threads : str
        Why one thread and two give the same bits; empty where the library divides sums among threads.
    crowded : tuple, optional
        A function besides the model's own that takes a batch, by its full name, and how large the batch is that its
        first argument holds.
    shared : tuple of str
        Variables of one model that depend on the models beside it.
    undrawn : frozenset of str
        Views that need other parameters, or a spectrum where there is none.
    rounding : tuple of str
        Variables that rounding decides where a value is on the edge, such as an eigenvalue that is exactly 1.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 8
    constants: Mapping[str, Any] = field(default_factory=dict)
    threads: str = ""
    crowded: tuple[str, Callable[[Any], int]] | None = None
    shared: tuple[str, ...] = ()
    rounding: tuple[str, ...] = ()
    undrawn: frozenset[str] = frozenset()


ENTRIES = {
    "weights": Entry(
        {"null_draws": 100},
        threads="each head is the work of one thread",
        shared=("bin_edges", "qk_density", "ov_density"),
    ),
    "jacobians": Entry(
        {"verify": False},
        crowded=("engine.analyses.jacobians.compute.sample_statistics", lambda operator: operator.shape[0]),
        # Behind a LayerNorm the last singular value is zero, and eigenvalues of the block are 1.
        undrawn=frozenset({"surgery"}),
        rounding=("mean_alpha_rank", "mean_alpha_rank_se", "mean_r2", "expanding_fraction", "complex_fraction"),
    ),
    "activations": Entry(
        {"splits": ["train", "test"], "fit_start": 2, "fit_stop": 12, "bootstrap": 2},
        samples=16,
        constants={"engine.analyses.activations.plan.PART_OPERATIONS": 8e5},
        undrawn=frozenset({"path"}),
    ),
    "gradients": Entry(
        {"fit_start": 3, "fit_stop": 20},
        samples=36,
    ),
    "attention": Entry(
        {"length_samples": 3, "lengths": [4, 8, 16, 24], "sweep_samples": 2, "shown": 2},
        samples=36,
        crowded=("engine.spectra.attention.eigenvalues", len),
    ),
    "communities": Entry(
        {"top_k": 4, "restarts": 2, "permutations": 99, "partitions": 10, "k": 6},
        constants={"engine.analyses.communities.result.RATE_PERMUTATIONS": 99},
    ),
}


class Workshop:
    """The models, the text and the session that all subjects share; finished runs are kept, and carried out once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.session = Session.create(folder / "all.eigenscope")
        self._finished: dict[str, Run] = {}
        self._opened: dict[ModelSpec, OpenModel] = {}

    def model(self, family: str) -> Path:
        """The folder of a random model whose weights are far from their first values."""
        path = self._folder / family
        if not path.exists():
            torch.manual_seed(0)
            model = FAMILIES[family]()
            for name, parameter in model.named_parameters():
                if name.endswith("weight") and parameter.ndim == 1:
                    torch.nn.init.uniform_(parameter, 0.5, 1.5)
            model.save_pretrained(path)
            tokenizer = tokenizer_of(VOCAB - 2)
            tokenizer.add_special_tokens({"mask_token": "[MASK]", "pad_token": "[PAD]"})
            tokenizer.save_pretrained(path)
        return path

    @cached_property
    def text(self) -> Path:
        """Documents of sentences of few words, which are quicker to take apart than the built-in text."""
        words = ["the", "cat", "sat", "on", "a", "small", "mat", "and", "dog", "text", "read", "twice"]
        rng = np.random.default_rng(0)
        documents = [". ".join(" ".join(rng.choice(words, 8)).capitalize() for _ in range(40)) for _ in range(20)]
        path = self._folder / "text.jsonl"
        path.write_text("".join(f'{{"text": "{document}."}}\n' for document in documents))
        return path

    def opened(self, spec: ModelSpec) -> OpenModel:
        """A model, kept open."""
        if spec not in self._opened:
            self._opened[spec] = open_model(spec)
        return self._opened[spec]

    def finished(self, request: Request) -> Run:
        """A run of `request` that is carried out."""
        key = request.model_dump_json()
        if key not in self._finished:
            self._finished[key] = carried_out(self.session, request)
        return self._finished[key]


@dataclass(frozen=True)
class Subject:
    """One analysis and the families of the models that it is examined on."""

    workshop: Workshop
    name: str
    families: tuple[str, ...]

    @property
    def analysis(self) -> AnyAnalysis:
        return get_analysis(self.name)

    @property
    def entry(self) -> Entry:
        return ENTRIES.get(self.name, Entry())

    @property
    def session(self) -> Session:
        return self.workshop.session

    def request(self, **params: Any) -> Request:
        """The small request of this subject, with some parameters of its own."""
        data = DataSpec(source=str(self.workshop.text), samples=self.entry.samples, length=LENGTH)
        models = map(self.workshop.model, self.families)
        params = {**self.entry.params, **params}
        return request_of(self.name, *models, data=data if self.analysis.needs_data else None, **params)

    def params(self, **params: Any) -> Params:
        return validate(self.analysis, {**self.entry.params, **params})

    def run(self) -> Run:
        """A finished run, shared between checks."""
        return self.workshop.finished(self.request())

    def result(self) -> xr.Dataset:
        """The result of a finished run, as it is read from the disk."""
        dataset = self.run().result()
        assert dataset is not None
        return dataset

    def computed(self, **params: Any) -> xr.Dataset:
        """What a run of one model gives, without the way over the disk."""
        request, given = self.request(**params), self.params(**params)
        (spec,) = request.models
        model, compute, done = self.workshop.opened(spec), self.analysis.compute(), dict[str, xr.Dataset]()
        for unit in self.analysis.units(request, given, [model.info]):
            done[unit.key] = compute(unit, request, given, model, unit_rng(request, unit), done)
        return assemble(self.analysis, request, given, [model.info], done)

    def partial(self, units: int) -> xr.Dataset:
        """What the window shows once the first so many units are committed."""
        run = self.run()
        done = {key: run.read_unit(key) for key in run.plan[:units]}
        return assemble(self.analysis, run.request, self.params(), run.models, done)

    def toggled(self) -> Iterator[dict[str, Any]]:
        """The defaults, then one parameter at a time set otherwise: switches, choices, and numbers that may be zero."""
        yield {}
        small = self.params()
        schema = self.analysis.params.model_json_schema()["properties"]
        for name, declared in self.analysis.params.model_fields.items():
            value, choices = getattr(small, name), get_args(declared.annotation)
            if isinstance(value, bool):
                yield {name: not value}
            elif schema[name].get("minimum") == 0 and value != 0:
                yield {name: 0}
            elif get_origin(declared.annotation) is tuple and (several := get_args(choices[0])):
                yield from ({name: [choice]} for choice in (several[0], several[-1]))
            elif isinstance(value, str):
                yield from ({name: choice} for choice in choices if choice != value)


@contextmanager
def constants() -> Iterator[None]:
    """Every entry's constants in their places."""
    with pytest.MonkeyPatch.context() as patch:
        for entry in ENTRIES.values():
            for name, value in entry.constants.items():
                patch.setattr(name, value)
        yield
