"""The gradients analysis as the registry holds it."""

from engine.analyses.base import Analysis, later
from engine.analyses.gradients.plan import GradientsParams, check, estimate_bytes, units
from engine.analyses.gradients.variables import VARIABLES

GRADIENTS = Analysis(
    name="gradients",
    title="Gradients",
    summary="Gradients of each sequence's loss: singular values and heavy tails, layer by layer.",
    definition=(
        "row x of G is the gradient of sequence x's mean token loss (nats) with respect to the weight, flattened; "
        "singular_values are σ of G; alpha_rank is minus the slope of ln σ² on ln rank; pr on σ²"
    ),
    params=GradientsParams,
    variables=VARIABLES,
    units=units,
    estimate_bytes=estimate_bytes,
    compute=later("engine.analyses.gradients.compute", "Compute"),
    result=later("engine.analyses.gradients.result", "result"),
    needs=("text", "loss"),
    check=check,
)
