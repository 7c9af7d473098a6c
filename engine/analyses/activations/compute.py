"""Units of the activation analysis: sums over some sequences, or the spectra of all."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.analyses.activations.plan import DENSITY, ActivationsParams, batch_tokens
from engine.analyses.base import Computation, Unit
from engine.analyses.samples import draw, tokenizer_if_any
from engine.data.splits import Split
from engine.errors import UserError
from engine.models.losses import IGNORED, Objective, logits_of, sequence_losses
from engine.models.memory import halve_on_oom
from engine.models.sites import Site, observe, sites
from engine.request import DataSpec, Request
from engine.spectra import density_fit, power_law
from engine.spectra.covariance import Covariance
from engine.spectra.random_matrix import noise_eigenvalues
from engine.spectra.threads import over_threads

if TYPE_CHECKING:
    from engine.models.opening import OpenModel

Place = tuple[str, int]  # a site's name and layer


@dataclass
class Sums:
    """Sums over some sequences; sums over disjoint sequences merge exactly.

    Attributes
    ----------
    covariances : dict
        Covariance of every site, in the order of the forward pass.
    loss, predicted : float, int
        Sum of the loss over predicted tokens (NaN if the model has none), and their number.
    sequences : int
        Number of sequences counted.
    lost : tuple of int
        Numbers of the sequences left out because of values that are not finite.
    """

    covariances: dict[Place, Covariance]
    loss: float = 0.0
    predicted: int = 0
    sequences: int = 0
    lost: tuple[int, ...] = ()

    def add(self, other: "Sums") -> None:
        """Merge sums of other sequences into these."""
        for place, covariance in other.covariances.items():
            if place in self.covariances:
                self.covariances[place].add(covariance)
            else:
                self.covariances[place] = covariance
        self.loss, self.predicted = self.loss + other.loss, self.predicted + other.predicted
        self.sequences, self.lost = self.sequences + other.sequences, (*self.lost, *other.lost)

    @classmethod
    def merged(cls, parts: Sequence["Sums"]) -> "Sums":
        """The total of all parts, added in their order."""
        total = cls({})
        for part in parts:
            total.add(part)
        return total

    def dataset(self) -> xr.Dataset:
        """Pack for storage, with sites of one width side by side."""
        ds, widths = xr.Dataset(), sorted({len(covariance.mean) for covariance in self.covariances.values()})
        places = {
            w: [
                [*place, covariance.count]
                for place, covariance in self.covariances.items()
                if len(covariance.mean) == w
            ]
            for w in widths
        }
        for width in widths:
            group = [covariance for covariance in self.covariances.values() if len(covariance.mean) == width]
            means, packed = (
                np.stack([covariance.mean.cpu().numpy() for covariance in group]),
                np.stack([covariance.packed() for covariance in group]),
            )
            ds[f"mean_{width}"] = (f"place_{width}", f"unit_{width}"), means
            ds[f"scatter_{width}"] = (f"place_{width}", f"pair_{width}"), packed
        ds.attrs = {
            "places": json.dumps(places),
            "order": json.dumps(list(self.covariances)),
            "loss": repr(self.loss),
            "predicted": self.predicted,
            "sequences": self.sequences,
            "lost": json.dumps(self.lost),
        }
        return ds

    @classmethod
    def read(cls, ds: xr.Dataset, device: str) -> "Sums":
        """The inverse of `dataset`, bit for bit."""
        covariances: dict[Place, Covariance] = {}
        for width, places in json.loads(ds.attrs["places"]).items():
            means, packed = ds[f"mean_{width}"].values, ds[f"scatter_{width}"].values
            for row, (name, layer, count) in enumerate(places):
                covariances[name, layer] = Covariance.unpacked(count, means[row], packed[row], device)
        ordered = {(name, layer): covariances[name, layer] for name, layer in json.loads(ds.attrs["order"])}
        attrs = ds.attrs
        return cls(
            ordered,
            float(attrs["loss"]),
            int(attrs["predicted"]),
            int(attrs["sequences"]),
            tuple(json.loads(attrs["lost"])),
        )


def accumulate(
    model: "OpenModel", data: DataSpec, params: ActivationsParams, split: Split, seed: int, part: int, parts: int
) -> Sums:
    """Sums over the sequences of one part, without sequences that have values that are not finite."""
    ids = draw(data, "windows", model, seed, split)
    tokenizer = tokenizer_if_any(model)
    special = tokenizer.all_special_ids if tokenizer is not None else []
    numbers = np.array_split(np.arange(len(ids)), parts)[part]
    module = model.module()
    objective = _objective(model, seed)
    measure = Measure(module, ids, sites(module, params.sites), special, objective, model.info.causal)
    size = max(1, batch_tokens(model.info) // ids.shape[1])
    total = Sums({})
    for start in range(0, len(numbers), size):
        for taken in _halving(measure, numbers[start : start + size]):
            total.add(taken)
    return total


def _objective(model: "OpenModel", seed: int) -> tuple[Objective, bool]:
    """The objective, and whether the model has a loss: it needs a head and, if masked, a mask token."""
    config: Any = model.config
    pad = getattr(config.get_text_config(), "pad_token_id", None)
    if "loss" in model.info.lacks:
        return Objective(True, pad), False
    return Objective(model.info.causal, pad, None if model.info.causal else model.tokenizer(), seed), True


class Measure:
    """One forward pass over some sequences: their sums, or None if a value is not finite.

    Counts positions of real tokens only: no padding, no special tokens, and in a masked model none of the tokens masked
    for the loss.
    """

    def __init__(
        self,
        module: nn.Module,
        ids: NDArray[np.int64],
        chosen: Sequence[Site],
        special: Sequence[int],
        objective: tuple[Objective, bool],
        causal: bool,
    ) -> None:
        self._module, self._ids, self._sites = module, ids, chosen
        self._real = (ids >= 0) & ~np.isin(ids, special)
        self._objective, self._has_loss = objective
        self._hides = self._has_loss and not causal

    def __call__(self, numbers: NDArray[np.int64]) -> Sums | None:
        device = str(next(self._module.parameters()).device)
        batch = self._objective.batch(self._ids, numbers.tolist(), device)
        real = torch.from_numpy(self._real[numbers, : batch.targets.shape[1]]).to(device)
        if self._hides:
            real &= batch.targets == IGNORED
        every = bool(real.all())
        taken = Sums({}, sequences=len(numbers), predicted=int((batch.targets != IGNORED).sum()))
        finite: list[Tensor] = []

        def take(site: Site, hidden: Tensor) -> None:
            covariance = Covariance.of(hidden.flatten(0, 1) if every else hidden[real])
            taken.covariances[site.name, site.layer] = covariance
            finite.extend((covariance.mean.isfinite().all(), covariance.scatter.diagonal().isfinite().all()))

        output = observe(self._module, self._sites, batch.inputs, take)
        if self._has_loss:
            predicted = (batch.targets != IGNORED).sum(1)
            losses = sequence_losses(logits_of(output, self._module), batch.targets).double()
            taken.loss = float((losses * predicted)[predicted > 0].sum())
            finite.append(losses[predicted > 0].isfinite().all())
        else:
            taken.loss, taken.predicted = float("nan"), 0
        return taken if bool(torch.stack(finite).all()) else None


def _halving(measure: Callable[[NDArray[np.int64]], Sums | None], numbers: NDArray[np.int64]) -> Iterator[Sums]:
    """The sums of a batch, halved where memory runs out or a value is not finite, each sequence once.

    Halving isolates sequences that are not finite; their sums are empty and name them.
    """
    for part, taken in halve_on_oom(measure, numbers):
        if taken is not None:
            yield taken
        elif len(part) == 1:
            yield Sums({}, lost=(int(part[0]),))
        else:
            half = len(part) // 2
            for some in (part[:half], part[half:]):
                yield from _halving(measure, some)


def spectra(sums: Sums, params: ActivationsParams, rng: np.random.Generator) -> xr.Dataset:
    """Eigenvalues of every site, (site, layer, mode), with their power laws, and those of noise."""
    if not sums.covariances:
        raise UserError(
            "The model's activations or its loss are not finite for any sample, so there is nothing to measure. "
            "Choose float32 or bfloat16, or another checkpoint."
        )
    places, covariances = list(sums.covariances), list(sums.covariances.values())
    names = list(dict.fromkeys(name for name, _ in places))
    layers = 1 + max(layer for _, layer in places)
    widest = max(len(covariance.mean) for covariance in covariances)
    count = covariances[0].count
    each = (
        over_threads
        if covariances[0].scatter.device.type == "cpu"
        else lambda f, items: [f(covariance) for covariance in items]
    )
    eigenvalues_by_place = each(Covariance.eigenvalues, covariances)
    noise: dict[int, NDArray[np.float64]] = {}
    for covariance in covariances:
        d = len(covariance.mean)
        if d not in noise and covariance.rank:
            noise[d] = noise_eigenvalues(rng, count - 1, d, 1.0)[0]

    shape = (len(names), layers)
    eigenvalues, noise_eigen = np.full((2, *shape, widest), np.nan)
    scalars = ["trace", "alpha_rank", "alpha_rank_se", "r2", "noise_alpha_rank"]
    values = {name: np.full(shape, np.nan) for name in (*scalars, *(DENSITY if params.density else ()))}
    for (name, layer), covariance, lambdas, own in zip(
        places, covariances, eigenvalues_by_place, rng.spawn(len(places)), strict=True
    ):
        at, d = (names.index(name), layer), len(covariance.mean)
        eigenvalues[at][:d] = lambdas
        values["trace"][at] = trace = np.nansum(lambdas) if covariance.rank else np.nan
        if covariance.rank == 0:
            continue
        control = noise[d] * trace
        noise_eigen[at][: len(control)] = control
        law = power_law.fit(lambdas[: covariance.rank], params.fit_start, params.fit_stop)
        values["alpha_rank"][at], values["alpha_rank_se"][at], values["r2"][at] = law.alpha, law.se, law.r2
        values["noise_alpha_rank"][at] = power_law.fit(control, params.fit_start, params.fit_stop).alpha
        if params.density:
            density = density_fit.fit(lambdas, own, params.bootstrap)
            for variable, field in DENSITY.items():
                values[variable][at] = getattr(density, field)

    first = {name: covariances[places.index((name, layer))] for name, layer in reversed(places)}
    loss = sums.loss / sums.predicted if sums.predicted else np.nan
    ds = xr.Dataset({name: (("site", "layer"), array) for name, array in values.items()})
    ds = ds.assign(
        eigenvalues=(("site", "layer", "mode"), eigenvalues),
        noise_eigenvalues=(("site", "layer", "mode"), noise_eigen),
        positions_per_dim=("site", np.array([count / len(first[name].mean) for name in names])),
        rank=("site", np.array([first[name].rank for name in names])),
        positions=((), count),
        loss=((), loss),
        perplexity=((), np.exp(loss)),
    )
    ds.attrs = {"lost": json.dumps(sums.lost), "sequences": sums.sequences}
    return ds.assign_coords(site=names, layer=np.arange(layers))


class Compute(Computation[ActivationsParams]):
    """Partial sums over sequences, merged and decomposed by the last unit of a model and split."""

    def __call__(
        self,
        unit: Unit,
        request: Request,
        params: ActivationsParams,
        model: "OpenModel",
        rng: np.random.Generator,
        done: Mapping[str, "xr.Dataset"],
    ) -> "xr.Dataset":
        _, split, *part = unit.key.split("-")
        before = sorted(key for key in done if key.startswith(f"m{unit.model}-{split}-"))
        at, parts = map(int, part) if part else (len(before), len(before) + 1)
        seed = request.seeds[unit.model]
        sums = accumulate(model, request.data or DataSpec(), params, cast(Split, split), seed, at, parts)
        if part:
            return sums.dataset()
        return spectra(Sums.merged([*(Sums.read(done[key], model.device) for key in before), sums]), params, rng)
