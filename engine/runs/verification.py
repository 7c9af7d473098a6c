"""Closed-form Jacobians against automatic differentiation on one model and a little text (methods §6)."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from engine.analyses.samples import draw, sample_length
from engine.jacobians.attention import Context
from engine.jacobians.verify import Verification, verify
from engine.models.opening import describe
from engine.request import DataSpec, Device, ModelSpec
from engine.runs.device import resolve_device
from engine.runs.model_cache import ModelCache

CONTEXTS: tuple[Context, ...] = ("in_context", "isolated")
TOKENS = 32
"""The longest sample: an error in a closed form shows at any length."""


@dataclass(frozen=True)
class Outcome:
    """The verification in each context of `CONTEXTS`."""

    verifications: tuple[Verification, ...]

    @property
    def passed(self) -> bool:
        return all(verification.passed for verification in self.verifications)

    @property
    def sentence(self) -> str:
        """The outcome in one sentence."""
        worst = max(self.verifications, key=lambda verification: verification.worst)
        layers = len(worst.layers)
        where = f"over {layers} layer{'s' * (layers > 1)}, both contexts"
        if self.passed:
            return f"Closed forms and automatic differentiation agree to {worst.worst:.0e} {where}."
        return (
            f"Closed forms and automatic differentiation differ by {worst.worst:.0e} {where}, which is more than "
            f"{worst.tolerance:.0e}: do not trust Jacobians of this model, and report it."
        )

    def errors(self) -> dict[str, list[list[float]]]:
        """The largest relative error over samples, by context, layer and component."""
        return {
            verification.context: verification.errors.nan_to_num(-1.0, posinf=inf).amax(2).T.tolist()
            for verification in self.verifications
        }

    def rows(self) -> list[tuple[str, ...]]:
        """The errors as a table: a heading, then a row for each context and layer."""
        first = self.verifications[0]
        return [("context", "layer", *first.components)] + [
            (context, str(layer), *(f"{error:.1e}" for error in row))
            for context, rows in self.errors().items()
            for layer, row in zip(first.layers, rows, strict=True)
        ]

    @property
    def table(self) -> str:
        """The rows, in columns of text."""
        rows = self.rows()
        widths = (12, 7, *[10] * (len(rows[0]) - 2))
        return "\n".join("".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def verify_model(
    spec: ModelSpec,
    data: DataSpec,
    device: Device,
    seed: int,
    progress: Callable[[str], None],
    models: ModelCache | None = None,
) -> Outcome:
    """Verify every layer of a model in float64 and in both contexts, on samples of at most `TOKENS` tokens.

    Parameters
    ----------
    progress : callable
        Called with a phrase before each layer; what it raises ends the verification.
    models : ModelCache, optional
        Keeps the model for what comes next; without it the model is closed at the end.

    Raises
    ------
    UserError
        If the model cannot be opened, has no closed forms, or the text gives no such samples.
    """
    info = describe(spec)
    # The reference differentiates the loaded module, which must not be a rounding of what is stored.
    spec = spec.model_copy(update={"dtype": "float64" if info.storage_dtype == "float64" else "float32"})
    cache = models or ModelCache()
    try:
        model = cache.get(spec, seed, resolve_device(device), info)
        ids = draw(data.model_copy(update={"length": min(sample_length(data, info), TOKENS)}), "sentences", model, seed)

        def verified(context: Context) -> Verification:
            return verify(model, ids, context=context, progress=lambda layer: progress(f"{context}, layer {layer}"))

        return Outcome(tuple(map(verified, CONTEXTS)))
    finally:
        if models is None:
            cache.close()
