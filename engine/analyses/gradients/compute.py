"""Units of the gradient analysis: gradients of some sequences, or the spectrum of one weight."""

from collections.abc import Mapping, Sequence
from typing import cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedTokenizerBase

from engine.analyses.base import Computation, Unit
from engine.analyses.gradients.plan import BATCH_TOKENS, CHUNK, MEMORY, GradientsParams, chunk_key
from engine.analyses.samples import draw, tokenizer_if_any
from engine.data.splits import Split
from engine.errors import UserError
from engine.gradients.per_sample import per_sample
from engine.gradients.scratch import Scratch, require_space
from engine.gradients.weights import Weight, choose
from engine.models.losses import IGNORED, Objective
from engine.models.memory import halve_on_oom
from engine.models.opening import OpenModel
from engine.request import DataSpec, Request
from engine.spectra.gram import Route, relative_floor, singular_values
from engine.spectra.random_matrix import noise_eigenvalues


class Collected:
    """Gradients of all chosen weights for the sequences of one model and split, in scratch storage.

    Parameters
    ----------
    module : nn.Module
        The library's whole model, on any device.
    weights : sequence of Weight
    ids : array (N, T)
        Padded with −1.
    objective : Objective
    causal : bool
    texts : sequence of str
        Texts of the sequences, where known.

    Attributes
    ----------
    collected : set of int
        Sequences whose gradients have been computed.
    """

    def __init__(
        self,
        module: nn.Module,
        weights: Sequence[Weight],
        ids: NDArray[np.int64],
        objective: Objective,
        causal: bool,
        texts: Sequence[str] = (),
    ) -> None:
        self.weights, self.collected = weights, set[int]()
        self._module, self._ids, self._objective, self._causal = module, ids, objective, causal
        self._texts = texts or [""] * len(ids)
        first = next(module.parameters())
        self._device, self._made_in = first.device.type, first.dtype
        dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
        require_space(sum(weight.size for weight in weights) * len(ids) * dtype.itemsize)
        self._scratch = [Scratch(len(ids), weight.size, dtype, MEMORY // len(weights)) for weight in weights]

    def collect(self, numbers: Sequence[int]) -> xr.Dataset:
        """Store the gradients of some sequences; return their losses, and whether each is kept (1 or 0).

        Numbers beyond the last sequence give NaN: a file may hold fewer than requested.
        """
        present = [number for number in numbers if number < len(self._ids)]
        size = max(1, BATCH_TOKENS[self._device] // self._ids.shape[1])
        batches = [present[start : start + size] for start in range(0, len(present), size)]
        columns = {name: np.full(len(numbers), np.nan) for name in ("loss", "predicted", "kept")}
        alone = f"One sequence of {self._ids.shape[1]} tokens does"
        for part_numbers, measured in (
            part for batch in batches for part in halve_on_oom(self._measure, batch, lambda _: alone)
        ):
            for column, values in zip(columns.values(), measured, strict=True):
                column[np.array(part_numbers) - numbers[0]] = values
        self.collected.update(numbers)
        texts = [self._texts[number] if number < len(self._ids) else "" for number in numbers]
        ds = xr.Dataset({name: ("sample", values) for name, values in columns.items()})
        ds["sample_text"] = "sample", np.array(texts)
        return ds

    def _measure(self, numbers: Sequence[int]) -> tuple[NDArray[np.float64], ...]:
        """Losses, counts of predicted tokens, and whether loss and gradients are finite, of each sequence."""
        batch = self._objective.batch(self._ids, numbers, self._device)
        if self._causal:
            # Causal tokens never see padding; masking it would empty some sliding windows and give NaN.
            del batch.inputs["attention_mask"]
        losses, gradients = per_sample(self._module, self.weights, batch)
        kept = losses.isfinite().cpu().numpy()
        for place in np.flatnonzero(kept).tolist():
            for scratch, of_weight in zip(self._scratch, gradients, strict=True):
                gradient = of_weight.of(place)
                kept[place] &= bool(gradient.isfinite().all())
                scratch.write(numbers[place], gradient)
        predicted = (batch.targets != IGNORED).sum(1).double().cpu().numpy()
        return losses.double().cpu().numpy(), predicted, kept.astype(float)

    def singular_values(self, number: int, rows: Sequence[int], route: Route = "gram") -> NDArray[np.float64]:
        """σ of one weight's gradients over the sequences `rows`, up to the largest possible rank."""
        blocks = (block.to(self._device) for block in self._scratch[number].blocks(rows))
        return singular_values(blocks, route)[: self.weights[number].size]

    def floor(self, route: Route) -> float:
        """The σ/σ₁ below which values are rounding."""
        return relative_floor(route, self._made_in)


def prepare(model: OpenModel, data: DataSpec, weight: str, split: Split, seed: int) -> Collected:
    """Find the weights and draw the sequences, without computing gradients."""
    module, causal = model.module(), model.info.causal
    weights = choose(module, weight, model.info.n_layers, model.projections)
    tokenizer = None if data.is_ids and causal else _reader(model, data)
    ids = draw(data, "windows", model, seed, split)
    pad = getattr(model.config.get_text_config(), "pad_token_id", None)
    texts = [str(tokenizer.decode(row[row >= 0].tolist())) for row in ids] if tokenizer is not None else []
    return Collected(module, weights, ids, Objective(causal, pad, tokenizer, seed), causal, texts)


def _reader(model: OpenModel, data: DataSpec) -> PreTrainedTokenizerBase:
    if data.is_ids and tokenizer_if_any(model) is None:
        raise UserError(
            f"{model.info.label} is trained to fill in masked tokens, and which token masks is known to its tokenizer, "
            "which is not there: copy the tokenizer's files into the model's folder."
        )
    return model.tokenizer()


def spectrum(
    collected: Collected, number: int, rows: Sequence[int], route: Route, rng: np.random.Generator
) -> xr.Dataset:
    """Singular values of one weight's gradients over the sequences `rows`, and of noise of the same shape and trace."""
    if not rows:
        raise UserError(
            "No sequence has a finite loss and finite gradients, so there is no spectrum. Choose float32, or another "
            "checkpoint."
        )
    weight = collected.weights[number]
    sigma = collected.singular_values(number, rows, route)
    noise = noise_eigenvalues(rng, len(rows), weight.size, float((sigma**2).sum()))[0]
    return xr.Dataset(
        {
            "singular_values": ("mode", sigma),
            "noise_singular_values": ("mode", np.sqrt(noise)),
            "floor": ((), sigma[0] * collected.floor(route)),
            "sequences": ((), len(rows)),
            "parameters": ((), weight.size),
        },
        attrs={"weight": weight.name, "layer": weight.layer},
    )


class Compute(Computation[GradientsParams]):
    """Gradients of a few sequences at a time, then the spectrum of each weight."""

    def __init__(self) -> None:
        self._collected: WeakKeyDictionary[OpenModel, tuple[str, Collected]] = WeakKeyDictionary()

    def __call__(
        self,
        unit: Unit,
        request: Request,
        params: GradientsParams,
        model: "OpenModel",
        rng: np.random.Generator,
        done: Mapping[str, "xr.Dataset"],
    ) -> "xr.Dataset":
        split, kind, number = _parse(unit.key)
        data = request.data or DataSpec()
        seed = request.seeds[unit.model]
        key = f"{data!r} {seed} {params.weight} {split}"
        collected_for, collected = self._collected.get(model, ("", None))
        if collected is None or collected_for != key:
            self._collected.pop(model, None)  # free old gradients before computing new ones
            collected = prepare(model, data, params.weight, split, seed)
            self._collected[model] = key, collected
        chunks = [range(start, min(start + CHUNK, data.samples)) for start in range(0, data.samples, CHUNK)]
        if kind == "chunk":
            return collected.collect(chunks[number])
        for chunk in chunks:
            if not collected.collected.issuperset(chunk):
                collected.collect(chunk)
        kept = np.concatenate([done[chunk_key(unit.model, split, i)]["kept"].values for i in range(len(chunks))])
        return spectrum(collected, number, np.flatnonzero(kept == 1).tolist(), params.route, rng)


def _parse(key: str) -> tuple[Split, str, int]:
    _, split, kind, number = key.split("-")
    return cast(Split, split), kind, int(number)
