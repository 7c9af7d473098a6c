"""The face of the jacobians analysis: what the registry holds."""

from engine.analyses.base import Analysis, later
from engine.analyses.jacobians.plan import JacobiansParams, check, estimate_bytes, units
from engine.analyses.jacobians.variables import VARIABLES

JACOBIANS = Analysis(
    name="jacobians",
    title="Jacobians",
    summary="How each layer passes on small changes: singular values of every sample, spectra of the mean operator.",
    definition=(
        "J[i, j] = ∂y_i/∂x_j at one token of each sample; attn and mlp from the norm before to the norm after, without "
        "skip; residual = block − I; rho = σ₁, delta = σ₂/σ₁, pr on σ²"
    ),
    params=JacobiansParams,
    variables=VARIABLES,
    units=units,
    estimate_bytes=estimate_bytes,
    compute=later("engine.analyses.jacobians.compute", "Compute"),
    result=later("engine.analyses.jacobians.result", "result"),
    needs=("text", "blocks", "stream"),
    check=check,
)
