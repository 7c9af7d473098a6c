"""The attention analysis as the registry holds it."""

from engine.analyses.attention.plan import AttentionParams, estimate_bytes, units
from engine.analyses.attention.variables import VARIABLES
from engine.analyses.base import Analysis, later

ATTENTION = Analysis(
    name="attention",
    title="Attention",
    summary="Eigenvalues, singular values and norms of every head's attention matrix, against length and sparsity.",
    definition=(
        "A: softmax weights, rows are queries; T×T of one sample and head, rows sum to 1; erank and (Σσ)²/Σσ² on σ, "
        "α of σ_i ∝ i^−α; entropy is the mean over rows; sparsity is the share of allowed weights below ε/T"
    ),
    params=AttentionParams,
    variables=VARIABLES,
    units=units,
    estimate_bytes=estimate_bytes,
    compute=later("engine.analyses.attention.compute", "Compute"),
    result=later("engine.analyses.attention.result", "result"),
    needs=("text", "attention"),
)
