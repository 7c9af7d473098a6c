"""The whole study of S0 on a model of GPT-2's shape, and what it costs against samples, width and layers."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness import Result, largest_difference
from benchmarks.jacobian_top import COMPONENTS, LOOP, last_token_maps
from engine.data.sentences import sentences
from engine.jacobians.closed import component_operators
from engine.jacobians.spectra import Statistic, condition_numbers, sample_statistics
from engine.jacobians.stream import ResidualStream
from engine.models.opening import OpenModel, open_model
from engine.request import DataSpec, ModelSpec
from engine.studies import cited

WANTED: tuple[Statistic, ...] = ("rho", "delta", "kappa")
LABELS: dict[Statistic, str] = {"rho": cited("spectral norm σ₁ (ρ in S0 eq. 7)"), "delta": "δ = σ₂/σ₁"}
# Samples that go through a layer's Jacobians at a time.
CHUNK = 128


# Sizes, and the seconds that they took.
Measured = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class Study:
    """What came out of one study.

    Attributes
    ----------
    values : dict of array, (layer, component, sample) each
    seconds : array, (layer,)
        Wall time of each layer, the step of the residual stream to the next one included.
    parts : dict of float
        Seconds spent on each component's ρ and δ, on κ, on closed forms, on reading blocks, and on the residual stream.
    """

    values: dict[Statistic, NDArray[np.float64]]
    seconds: NDArray[np.float64]
    parts: dict[str, float]


def jacobian_study(
    layers: int = 12,
    d: int = 768,
    heads: int = 12,
    samples: int = 600,
    length: int = 100,
    fewer: Sequence[int] = (150, 300, 600),
    widths: Sequence[int] = (576, 768, 1152),
    looped: int = 3,
    folder: Path | None = None,
) -> Result:
    """ρ, δ and κ of attention and MLP in context, for every sentence at every layer; fresh weights, fp32.

    The cost is measured on studies of one layer with `fewer` samples, and with residual streams of other `widths` and
    the first of those numbers, all of them large enough for products to weigh more than calls; that of fewer layers is
    seen on the way, as layers are done one after the other. The plot goes to `folder`, or where the environment's
    BENCHMARKS_OUT says, or to benchmarks/out.
    """
    began = time.perf_counter()
    with _fresh_model(layers, d, heads) as model:
        most = max(samples, *fewer)
        tokens = sentences(DataSpec(samples=most, length=length), model.tokenizer(), 0)
        stream = ResidualStream(model.module(), tokens[:samples])
        lengths = stream.lengths.double()
        loop, numbers, expected = _s0_loop(stream, looped)
        study = _study(stream, model)
    taken = float(study.seconds.sum())
    cost = {
        "samples": _against(fewer, [(d, heads, tokens[:n]) for n in fewer]),
        "width": _against(widths, [(w, max(1, w * heads // d), tokens[: fewer[0]]) for w in widths]),
        "layers": (np.arange(1, layers + 1), study.seconds.cumsum()),
    }
    exponents = {name: float(np.polyfit(np.log(size), np.log(spent), 1)[0]) for name, (size, spent) in cost.items()}
    out = folder or Path(os.environ.get("BENCHMARKS_OUT", Path(__file__).parent / "out"))
    out.mkdir(parents=True, exist_ok=True)
    _plot(study, cost, exponents, out / "jacobian_study.png")

    agreement = max(
        largest_difference(study.values[name][0][:, numbers], exact.numpy(), exact.numpy() > 0)
        for name, exact in expected.items()
    )
    singular = float(np.isinf(study.values["kappa"]).mean())
    facts: dict[str, float | str] = {
        "what": f"ρ, δ, κ of {layers} layers × {len(COMPONENTS)} components × {samples} sentences of at most "
        f"{length} tokens (mean {lengths.mean():.0f}), d = {d}, fp32, {torch.get_num_threads()} threads",
        "reference": f"{LOOP}: torch.autograd.functional.jacobian and svdvals, sample by sample; "
        f"{looped} sentences of the first layer timed and scaled to all",
        f"{LOOP}, hours": loop * layers * samples / 3600,
        "all of this benchmark, minutes": (time.perf_counter() - began) / 60,
        "samples whose J is singular (κ = ∞), as a LayerNorm makes it": f"{singular:.0%}",
    }
    facts |= {f"share of {part}": f"{spent / taken:.0%}" for part, spent in study.parts.items()}
    facts |= {f"cost grows with {size} to the power": exponent for size, exponent in exponents.items()}
    facts["plot"] = str(out / "jacobian_study.png")
    return Result(
        "jacobian_study",
        taken,
        loop * layers * samples,
        agreement,
        demands={
            "the whole study within 10 minutes": taken <= 600,
            "agrees to 1e-4 relative": agreement <= 1e-4,
        },
        facts=facts,
    )


@contextmanager
def _fresh_model(layers: int, d: int, heads: int) -> Iterator[OpenModel]:
    """A model of GPT-2's architecture with fresh weights, and the built-in model's tokenizer."""
    from transformers import GPT2Config

    with TemporaryDirectory() as folder:
        config = GPT2Config(n_layer=layers, n_embd=d, n_head=heads, bos_token_id=0, eos_token_id=0)
        config.architectures = ["GPT2LMHeadModel"]
        config.save_pretrained(folder)
        open_model(ModelSpec()).tokenizer().save_pretrained(folder)
        model = open_model(ModelSpec(source=folder, twin=True), device="cpu")
        yield model
        model.close()


def _study(stream: ResidualStream, model: OpenModel) -> Study:
    """Every sample at every layer, by the functions that the analysis calls."""
    layers, n = model.info.n_layers, len(stream.tokens)
    values = {name: np.full((layers, len(COMPONENTS), n), np.nan) for name in WANTED}
    parts = {**{f"{component}: ρ and δ": 0.0 for component in COMPONENTS}, "κ": 0.0, "closed forms": 0.0}
    parts |= {"reading blocks": 0.0, "the residual stream": 0.0}
    seconds = np.zeros(layers)

    def timed(part: str, began: float) -> None:
        parts[part] += time.perf_counter() - began

    for layer in range(layers):
        began = time.perf_counter()
        block = model.block(layer, "all")
        timed("reading blocks", began)
        for numbers, state in stream.states(torch.float32, CHUNK):
            start = time.perf_counter()
            operators = component_operators(block, state, "in_context")
            timed("closed forms", start)
            for row, component in enumerate(COMPONENTS):
                start = time.perf_counter()
                statistics = sample_statistics(operators[component], ("rho", "delta"))
                timed(f"{component}: ρ and δ", start)
                start = time.perf_counter()
                statistics["kappa"] = condition_numbers(operators[component], statistics["rho"])
                timed("κ", start)
                for name, of_samples in statistics.items():
                    values[name][layer, row, numbers.numpy()] = of_samples.numpy()
        start = time.perf_counter()
        if layer + 1 < layers:
            stream.advance()
        timed("the residual stream", start)
        seconds[layer] = time.perf_counter() - began
    return Study(values, seconds, parts)


def _against(sizes: Sequence[int], shapes: Sequence[tuple[int, int, NDArray[np.int64]]]) -> Measured:
    """Seconds of studies of one layer with (d, heads, tokens) beside the sizes in which they differ."""
    taken = []
    for d, heads, tokens in shapes:
        with _fresh_model(1, d, heads) as model:
            taken.append(_study(ResidualStream(model.module(), tokens), model).seconds.sum())
    return np.array(sizes), np.array(taken)


def _s0_loop(stream: ResidualStream, looped: int) -> tuple[float, NDArray[np.int64], dict[Statistic, Tensor]]:
    """Seconds a sample of S0's way at the first layer, and ρ and δ (component, sample) of the samples that it took.

    They are the middle ones of as many equal parts of all samples by length: the time is proportional to that.
    """
    n = len(stream.lengths)
    chosen = stream.lengths.argsort()[[int((part + 0.5) / looped * n) for part in range(looped)]].tolist()
    numbers, sigma, taken = [], [], 0.0
    for number, state in stream.states(torch.float32, 1):
        if int(number) not in chosen:
            continue
        numbers.append(int(number))
        began = time.perf_counter()
        for component in COMPONENTS:
            maps, (x, others) = last_token_maps(stream.blocks[0], state.hidden, component)
            jacobian = torch.autograd.functional.jacobian(lambda y, m=maps, o=others[0]: m(y, o), x[0])
            sigma.append(torch.linalg.svdvals(jacobian)[:2].double())
        taken += time.perf_counter() - began
    top = torch.stack(sigma).unflatten(0, (-1, len(COMPONENTS))).transpose(0, 1)
    return taken / looped, np.array(numbers), {"rho": top[..., 0], "delta": top[..., 1] / top[..., 0]}


def _plot(study: Study, cost: dict[str, Measured], exponents: dict[str, float], path: Path) -> None:
    """ρ and δ by layer (S0, figures 2 and 3), and the cost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    above, below = figure.subfigures(2, squeeze=False)[:, 0]
    for place, (name, label) in enumerate(LABELS.items()):
        axes = above.add_subplot(1, 2, place + 1)
        for row, (component, colour) in enumerate(zip(COMPONENTS, ("tab:blue", "tab:orange"), strict=True)):
            values = study.values[name][:, row]
            axes.boxplot(
                [of_layer[np.isfinite(of_layer)] for of_layer in values],
                positions=np.arange(len(values)) + 0.35 * (row - 0.5),
                widths=0.3,
                manage_ticks=False,
                patch_artist=True,
                boxprops={"facecolor": colour},
                medianprops={"color": "black"},
                flierprops={"markersize": 2, "markeredgecolor": colour},
            )
            axes.plot([], color=colour, label=component)
        axes.set(xlabel="layer", ylabel=label)
        axes.locator_params(axis="x", integer=True)
        axes.legend()
    for place, (size, (sizes, taken)) in enumerate(cost.items()):
        axes = below.add_subplot(1, 3, place + 1)
        axes.loglog(sizes, taken, "o-")
        # Sizes that were measured, and round numbers of seconds, instead of powers of ten that lie outside.
        axes.set_xticks(sizes[:: max(1, len(sizes) // 4)], minor=False)
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter("{x:.0f}")
        for ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            ticks("{x:g}")
        axes.set(xlabel=size, ylabel="seconds", title=f"power {exponents[size]:.2f}")
    figure.savefig(path)
