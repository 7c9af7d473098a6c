"""The face of the weights analysis: what the registry holds."""

from engine.analyses.base import Analysis, later
from engine.analyses.weights.plan import WeightsParams, estimate_bytes, units
from engine.analyses.weights.variables import VARIABLES

WEIGHTS = Analysis(
    name="weights",
    title="Weights",
    summary="Singular values and eigenvalues of W_QK and W_OV of every head, beside what random weights would give.",
    definition="W_QK = W_Qᵀ W_K and W_OV = W_O W_V of the weights alone: no biases, no 1/√d_h; eigenvalues are λ = σ²",
    params=WeightsParams,
    variables=VARIABLES,
    units=units,
    estimate_bytes=estimate_bytes,
    compute=later("engine.analyses.weights.compute", "Compute"),
    result=later("engine.analyses.weights.result", "result"),
    needs=("heads",),
)
