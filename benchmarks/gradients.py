"""Spectra of per-sequence gradients of a GPT-2 against a loop with one sequence at a time and a whole SVD."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
import transformers as hf
from torch import Tensor, nn

from benchmarks.harness import Result, largest_difference
from engine.analyses.gradients.compute import Collected
from engine.analyses.gradients.plan import CHUNK, MEMORY
from engine.gradients import ATTENTION_OUTPUT
from engine.gradients.weights import Weight, choose
from engine.models.losses import Objective
from engine.runs.memory import PeakMemory

TOLERANCE = 1e-4
FASTER = 5
T = TypeVar("T")


def gradients(
    d: int = 768,
    layers: int = 12,
    heads: int = 12,
    vocabulary: int = 50257,
    sequences: int = 256,
    length: int = 256,
) -> Result:
    """Attention output projections of all layers, random weights, fp32; ours is carried out whole, on the Gram route.

    The published way (S1) is a loop for each weight: forward, backward, keep the weight's gradient; then one SVD. Its
    loop is timed on one sequence after each of our chunks, so that a busy machine is busy for both, its SVD on one
    weight, and both are scaled. The same loop with the gradients of all weights kept at once is among the facts: on a
    CPU, where a batch of one already keeps the cores busy, we only save it the gradients of all other parameters.
    """
    config = hf.GPT2Config(
        n_embd=d,
        n_layer=layers,
        n_head=heads,
        vocab_size=vocabulary,
        n_positions=length,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    module = hf.GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
    ids = np.random.default_rng(0).integers(0, vocabulary, (sequences, length))
    weights = choose(module, ATTENTION_OUTPUT, layers)
    _one(module, weights, ids[0])
    module.zero_grad()

    resident = psutil.Process().memory_info().rss
    collected = Collected(module, weights, ids, Objective(True, None), causal=True)
    parts = [range(start, min(start + CHUNK, sequences)) for start in range(0, sequences, CHUNK)]
    times, peaks, looped, kept = [], [], [], []
    for part in parts:
        with PeakMemory("cpu") as peak:
            times.append(_timed(collected.collect, part)[0])
        peaks.append(peak.bytes - resident)
        taken, rows = _timed(_one, module, weights, ids[part[0]])
        module.zero_grad()
        looped.append(taken)
        kept.append(rows)
        resident += sum(row.nbytes for row in rows)
    with PeakMemory("cpu") as peak:
        spectra, _ = _timed(lambda: [collected.singular_values(i, range(sequences)) for i in range(layers)])
    peaks.append(peak.bytes - resident)
    half, _ = _timed(collected.singular_values, 0, range(sequences // 2))
    stacked = torch.randn(sequences, weights[0].size)
    svd = layers * _timed(torch.linalg.svdvals, stacked)[0]

    worst = 0.0
    for number in range(layers):
        exact = torch.linalg.svdvals(torch.stack([rows[number] for rows in kept]).double()).numpy()
        sigma = collected.singular_values(number, [part[0] for part in parts])
        worst = max(worst, largest_difference(sigma, exact, exact > exact[0] * collected.floor("gram")))

    loop = sum(looped) / len(looped) * sequences
    ours, reference = sum(times) + spectra, layers * loop + svd
    everything = 4 * sequences * sum(weight.size for weight in weights)
    middle = len(parts) // 2
    early, late = (
        sum(times[of]) / sum(map(len, parts[of])) if parts[of] else np.nan
        for of in (slice(None, middle), slice(middle, None))
    )
    return Result(
        "gradients",
        ours,
        reference,
        worst,
        demands={
            f"at least {FASTER} times faster than the published loop, one for each weight": reference >= FASTER * ours,
            f"singular values agree to {TOLERANCE:g} relative above the floor": worst <= TOLERANCE,
            f"after the first {CHUNK} sequences peak memory grows by less than {2 * MEMORY / 1e6:.0f} MB": max(peaks)
            - peaks[0]
            < 2 * MEMORY,
        },
        facts={
            "what": f"σ of the gradients of {sequences} sequences of {length} tokens, {layers} weights {d}×{d}, fp32, "
            f"{torch.get_num_threads()} threads",
            "reference": f"{layers} loops ({len(looped)} sequences timed and scaled), then {layers} SVDs (one timed)",
            "ratio to a single loop that keeps the gradients of all weights, then SVDs": (loop + svd) / ours,
            "ratio to that loop alone, our gradients alone": loop / sum(times),
            "seconds of ours: gradients, spectra": f"{sum(times):.1f}, {spectra:.1f}",
            "seconds of the reference: one loop, all SVDs": f"{loop:.1f}, {svd:.1f}",
            "seconds a sequence, first and second half (linear cost)": f"{early:.3f}, {late:.3f}",
            f"seconds for one weight's spectrum of {sequences // 2} and of {sequences} sequences": f"{half:.2f}, "
            f"{spectra / layers:.2f}",
            "peak memory above the model's, MB": max(peaks) / 1e6,
            "the same chunk by chunk, then for the spectra, MB": ", ".join(f"{one / 1e6:.0f}" for one in peaks),
            "all gradients, which the reference keeps, MB": everything / 1e6,
        },
    )


def _one(module: nn.Module, weights: Sequence[Weight], row: np.ndarray) -> list[Tensor]:
    """S1's way for one sequence: a batch of one, a whole backward pass, the flattened gradient of each weight."""
    ids = torch.from_numpy(row)[None]
    module(input_ids=ids, labels=ids).loss.backward()
    gradients = [module.get_parameter(weight.name).grad for weight in weights]
    return [gradient.flatten().clone() for gradient in gradients if gradient is not None]


def _timed(work: Callable[..., T], *given: Any) -> tuple[float, T]:
    began = time.perf_counter()
    result = work(*given)
    return time.perf_counter() - began, result
