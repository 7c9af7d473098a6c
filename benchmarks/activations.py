"""Covariances of all blocks of a GPT-2 against the forward pass alone, and against numpy on stored activations."""

import time
from collections.abc import Callable

import numpy as np
import torch
import transformers as hf
from torch import Tensor

from benchmarks.harness import Result
from engine.analyses.activations.compute import Measure, Sums
from engine.models.losses import Objective
from engine.models.sites import Choice, Site, observe, sites
from engine.spectra.covariance import Covariance

ALLOWED = 1.35
TOLERANCE = 1e-6


def activations(
    d: int = 768,
    layers: int = 12,
    heads: int = 12,
    vocabulary: int = 50257,
    sequences: int = 60,
    length: int = 128,
    batch: int = 20,
    offset: float = 100.0,
) -> Result:
    """Random weights, fp32. Every batch goes through all ways in turn, so that a busy machine is busy for all of them.

    Ours includes the loss of every sequence and the merging of the batches.
    """
    config = hf.GPT2Config(n_embd=d, n_layer=layers, n_head=heads, vocab_size=vocabulary, n_positions=length)
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    module = model.eval().requires_grad_(False)
    ids = np.random.default_rng(0).integers(0, vocabulary, (sequences, length))
    objective = Objective(True, None)
    totals: dict[Choice, Sums] = {"blocks": Sums({}), "sublayers": Sums({})}

    def bare(numbers: np.ndarray) -> None:
        with torch.no_grad():
            module(**objective.batch(ids, numbers.tolist()).inputs, use_cache=False)

    def measured(choice: Choice) -> Callable[[np.ndarray], None]:
        measure = Measure(module, ids, sites(module, choice), [], (objective, True), causal=True)

        def take(numbers: np.ndarray) -> None:
            taken = measure(numbers)
            assert taken is not None
            totals[choice].add(taken)

        return take

    ways = {"forward": bare, "blocks": measured("blocks"), "sublayers": measured("sublayers")}
    batches = np.array_split(np.arange(sequences), -(-sequences // batch))
    times: dict[str, list[float]] = {way: [] for way in ways}
    for act in ways.values():
        act(batches[0])  # warm
    for choice in totals:
        totals[choice] = Sums({})
    for numbers in batches:
        for way, act in ways.items():
            began = time.perf_counter()
            act(numbers)
            times[way].append(time.perf_counter() - began)

    forward, blocks, sublayers = (sum(times[way]) for way in ways)
    each = np.cumsum(times["blocks"]) / np.cumsum([len(numbers) for numbers in batches])
    agreement = _largest_error(module, ids, totals["blocks"], batch)
    shifted = _shifted_error(module, ids[:batch], offset)
    return Result(
        "activations",
        blocks,
        forward,
        agreement,
        demands={
            f"at most {ALLOWED} times the forward pass": blocks <= ALLOWED * forward,
            "agrees with numpy.cov to 1e-6": agreement <= TOLERANCE,
            f"and with all means moved by {offset:g}": shifted <= TOLERANCE,
        },
        facts={
            "what": f"covariances of {layers} blocks and the loss, d = {d}, {sequences} sequences of {length} tokens, "
            f"fp32, {torch.get_num_threads()} threads",
            "reference": "the forward pass alone, over the same batches in turn with ours",
            "blocks over forward": blocks / forward,
            f"all sublayers ({len(totals['sublayers'].covariances)} sites) over forward": sublayers / forward,
            "seconds a sequence, after each batch": ", ".join(f"{value:.3g}" for value in each),
            "difference with the means moved": shifted,
        },
    )


def _largest_error(module: torch.nn.Module, ids: np.ndarray, sums: Sums, batch: int) -> float:
    """Of every block's covariance from the stored activations of all sequences, by `_error`."""
    stored: dict[int, list[np.ndarray]] = {}

    def keep(site: Site, hidden: Tensor) -> None:
        stored.setdefault(site.layer, []).append(hidden.flatten(0, 1).numpy().copy())

    for start in range(0, len(ids), batch):
        observe(module, sites(module), {"input_ids": torch.from_numpy(ids[start : start + batch])}, keep)
    return max(
        _error(sums.covariances["block", layer], np.concatenate(parts).astype(np.float64))
        for layer, parts in stored.items()
    )


def _shifted_error(module: torch.nn.Module, ids: np.ndarray, offset: float) -> float:
    """The same for activations whose means are moved by `offset` first."""
    errors: list[float] = []

    def moved(site: Site, hidden: Tensor) -> None:
        x = hidden.flatten(0, 1) + offset
        total = Covariance.zero(x.shape[1])
        for part in x.chunk(3):
            total.add(Covariance.of(part))
        errors.append(_error(total, x.double().numpy()))

    observe(module, sites(module), {"input_ids": torch.from_numpy(ids)}, moved)
    return max(errors)


def _error(ours: Covariance, vectors: np.ndarray) -> float:
    """Largest |C − Ĉ|_ij / √(C_ii C_jj)."""
    expected = np.cov(vectors.T)
    scale = np.sqrt(np.diag(expected))
    return float((np.abs(ours.matrix.numpy() - expected) / np.outer(scale, scale)).max())
