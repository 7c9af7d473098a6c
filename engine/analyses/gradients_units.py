"""What one unit of the gradient analysis computes: the gradients of some sequences, or the spectrum of one weight's."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from engine.analyses.gradients import BATCH_TOKENS, CHUNK, MEMORY
from engine.data.splits import Split
from engine.data.tokens import tokens
from engine.errors import UserError
from engine.gradients.per_sample import per_sample
from engine.gradients.scratch import Scratch, require_space
from engine.gradients.weights import choose
from engine.models.losses import IGNORED, Objective
from engine.models.memory import release
from engine.models.opening import OpenModel
from engine.request import DataSpec
from engine.spectra.gram import Route, relative_floor, singular_values
from engine.spectra.random_matrix import noise_eigenvalues


class Collected:
    """The gradients of all chosen weights for the sequences of one model and split, put aside as they come.

    Attributes
    ----------
    weights : tuple of Weight
    chunks : set of int
        Those whose sequences are there.
    """

    def __init__(self, model: OpenModel, data: DataSpec, weight: str, split: Split, seed: int) -> None:
        self._module = model.module()
        self.weights = choose(self._module, weight, model.info.n_layers)
        self.chunks: set[int] = set()
        given = data.source.endswith(".npy")
        tokenizer = None if given and model.info.causal else model.tokenizer()
        self._tokens = tokens(data, tokenizer, seed, vocab_size=model.info.vocab_size, split=split)
        pad = getattr(model.config.get_text_config(), "pad_token_id", None)
        self._causal = model.info.causal
        self._objective = Objective(model.info.causal, pad, tokenizer, seed)
        self._texts = ["" if given else model.tokenizer().decode(row[row >= 0].tolist()) for row in self._tokens]
        self._device = model.device
        self._samples = data.samples
        own = next(self._module.parameters()).dtype
        self.made_in = own
        dtype = torch.float64 if own == torch.float64 else torch.float32
        require_space(sum(weight.size for weight in self.weights) * len(self._tokens) * dtype.itemsize)
        self._scratch = [
            Scratch(len(self._tokens), weight.size, dtype, MEMORY // len(self.weights)) for weight in self.weights
        ]

    def collect(self, chunk: int) -> xr.Dataset:
        """Put aside the gradients of one chunk's sequences; their losses, and which of them are kept (1 or 0)."""
        numbers = list(range(chunk * CHUNK, min((chunk + 1) * CHUNK, self._samples)))
        loss, predicted = np.full(len(numbers), np.nan), np.zeros(len(numbers), dtype=np.int64)
        kept, texts = np.full(len(numbers), np.nan), np.full(len(numbers), "", dtype=object)
        # A file may have fewer rows than were asked for.
        there = [number for number in numbers if number < len(self._tokens)]
        size = max(1, BATCH_TOKENS[self._device] // self._tokens.shape[1])
        waiting = [there[start : start + size] for start in range(0, len(there), size)][::-1]
        while waiting:
            some = waiting.pop()
            try:
                found = self._measure(some)
            except torch.OutOfMemoryError:
                if len(some) == 1:
                    raise UserError(
                        f"One sequence of {self._tokens.shape[1]} tokens does not fit into the memory of the device. "
                        "Choose shorter samples, or the CPU."
                    ) from None
                found = None
            if found is None:  # Outside of the handler, which would keep the failed tensors alive.
                release()
                half = len(some) // 2
                waiting += [some[half:], some[:half]]
                continue
            at = np.array(some) - numbers[0]
            loss[at], predicted[at], kept[at] = found
            texts[at] = [self._texts[number] for number in some]
        self.chunks.add(chunk)
        return xr.Dataset(
            {
                "loss": ("sample", loss),
                "predicted": ("sample", predicted),
                "kept": ("sample", kept),
                "sample_text": ("sample", texts.astype(str)),
            },
            coords={"sample": numbers},
        )

    def _measure(self, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Losses, counts of predicted tokens, and whether loss and gradients are finite; each row has its own place."""
        batch = self._objective.batch(self._tokens, numbers, self._device)
        if self._causal:
            # No token sees the padding after it; masking it all the same empties some sliding windows, which gives NaN.
            del batch.inputs["attention_mask"]
        losses, gradients = per_sample(self._module, self.weights, batch)
        kept = losses.isfinite().cpu().numpy()
        for place in np.flatnonzero(kept).tolist():
            for scratch, of_weight in zip(self._scratch, gradients, strict=True):
                gradient = of_weight.of(place)
                kept[place] &= bool(gradient.isfinite().all())
                scratch.write(numbers[place], gradient)
        return losses.double().cpu().numpy(), (batch.targets != IGNORED).sum(1).cpu().numpy(), kept

    def singular_values(self, number: int, rows: Sequence[int], route: Route) -> np.ndarray:
        """σ of one weight's gradients over the sequences `rows`."""
        blocks = (block.to(self._device) for block in self._scratch[number].blocks(rows))
        return singular_values(blocks, route)


def spectrum(
    collected: Collected, number: int, rows: Sequence[int], route: Route, rng: np.random.Generator
) -> xr.Dataset:
    """One weight's singular values over the sequences `rows`, and those of noise of the same shape and trace."""
    if not rows:
        raise UserError(
            "No sequence has a finite loss and finite gradients, so there is no spectrum. Choose float32, or another "
            "checkpoint."
        )
    weight = collected.weights[number]
    sigma = collected.singular_values(number, rows, route)[: min(len(rows), weight.size)]
    noise = noise_eigenvalues(rng, len(rows), weight.size, float((sigma**2).sum()))[0]
    return xr.Dataset(
        {
            "singular_values": ("mode", sigma),
            "noise_singular_values": ("mode", np.sqrt(noise)),
            "floor": ((), sigma[0] * relative_floor(route, collected.made_in)),
            "sequences": ((), len(rows)),
            "parameters": ((), weight.size),
        },
        attrs={"weight": weight.name, "layer": weight.layer, "tied": len(weight.uses)},
    )
