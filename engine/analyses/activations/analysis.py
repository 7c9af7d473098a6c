"""The activations analysis as the registry holds it."""

from engine.analyses.activations.plan import ActivationsParams, estimate_bytes, units
from engine.analyses.activations.variables import VARIABLES
from engine.analyses.base import Analysis, later

ACTIVATIONS = Analysis(
    name="activations",
    title="Activations",
    summary="How many directions activations use: covariance spectra of blocks and sublayers, and their power laws.",
    definition=(
        "eigenvalues of C = M₂/(n−1) over all real positions (no padding, no special tokens); alpha_rank: −slope of "
        "ln λ on ln rank over the window; alpha_esd: maximum likelihood on the density; noise: iid Gaussian of the "
        "same N, d and trace"
    ),
    params=ActivationsParams,
    variables=VARIABLES,
    units=units,
    estimate_bytes=estimate_bytes,
    compute=later("engine.analyses.activations.compute", "Compute"),
    result=later("engine.analyses.activations.result", "result"),
    needs=("text", "blocks"),
)
