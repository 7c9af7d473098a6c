"""The variables of a result of the Jacobian analysis."""

from engine.analyses.jacobians.plan import JacobiansParams
from engine.analyses.variables import Reduction, Variable

HEAD = ("model", "component", "layer")
SAMPLE = (*HEAD, "sample")


def _kappa(params: JacobiansParams) -> bool:
    return params.kappa


def _spectra(params: JacobiansParams) -> bool:
    return params.spectra


def _depth(params: JacobiansParams) -> bool:
    """The product of all layers needs the block's Jacobian of each."""
    return "block" in params.components


def _surgery(params: JacobiansParams) -> bool:
    return params.surgery and _depth(params)


def _sampled(
    name: str, symbol: str, title: str, log: bool = False, summary: Reduction | None = None
) -> tuple[Variable, ...]:
    """A statistic of every sample, and its mean between the ends of a 95 % interval."""
    when = _kappa if name == "kappa" else None
    return (
        Variable(name, SAMPLE, symbol, title, log=log, summary=summary, when=when),
        Variable(
            f"{name}_interval",
            (*HEAD, "bound"),
            symbol,
            f"{title}: mean over samples with its 95 % interval",
            log=log,
            role="error",
            when=when,
        ),
    )


VARIABLES = (
    *_sampled("rho", "σ₁", "spectral norm σ₁", log=True, summary="median"),
    *_sampled("delta", "δ", "δ = σ₂/σ₁"),
    *_sampled("kappa", "κ", "condition number κ = σ₁/σ_d", log=True),
    *_sampled("pr", "PR", "participation ratio (Σσ²)²/Σσ⁴", summary="median"),
    *_sampled("frobenius", "‖J‖_F", "Frobenius norm ‖J‖_F", log=True),
    Variable("henrici", HEAD, "Henrici", "Henrici departure", summary="mean"),
    Variable("self_alignment", HEAD, "self-align.", "self-alignment", summary="mean"),
    Variable("forward_alignment", HEAD, "forward align.", "forward alignment"),
    Variable("alignment_gap", HEAD, "σ_k − σ_k+1", "gap after the k-th singular value, over σ₁"),
    Variable("complex_fraction", HEAD, "complex λ", "share of λ in complex pairs"),
    Variable("expanding_fraction", HEAD, "|λ| > 1", "share of |λ| > 1"),
    Variable("spectral_radius", HEAD, "|λ₁|", "spectral radius |λ₁|", log=True),
    Variable("residual_norm", HEAD, "‖J − I‖_F/√d", "‖J − I‖_F/√d", log=True),
    Variable("mean_alpha_rank", HEAD, "α", "α of the mean"),
    Variable("mean_alpha_rank_se", HEAD, "SE(α)", "standard error of α of the mean", role="error"),
    Variable("mean_r2", HEAD, "R²", "R² of the fit of the mean"),
    Variable(
        "verified_error", HEAD, "error", "relative difference of closed form and autograd", log=True, role="error"
    ),
    Variable("mean_eigenvalues", (*HEAD, "mode"), "λ", "λ of the mean Jacobian", role="spectrum"),
    Variable("mean_singular_values", (*HEAD, "mode"), "σ", "σ of the mean Jacobian", log=True, role="spectrum"),
    Variable("singular_values", (*SAMPLE, "mode"), "σ", "singular values", log=True, role="spectrum", when=_spectra),
    Variable("column_norm", (*HEAD, "unit"), "‖J eᵢ‖", "column norm of the mean Jacobian", log=True, role="detail"),
    Variable("alignment_baseline", ("model",), "k/d", "alignment of random subspaces", role="null"),
    Variable(
        "cumulative_effective_rank",
        ("model", "layer"),
        "PR",
        "effective rank of the product of all layers from this one",
        when=_depth,
    ),
    Variable(
        "cumulative_singular_values",
        ("model", "layer", "depth_mode"),
        "σ",
        "singular values of the product of all layers from this one",
        log=True,
        role="detail",
        when=_depth,
    ),
    Variable(
        "cumulative_exponents",
        ("model", "layer", "depth_mode"),
        "ln σ/(L − ℓ)",
        "exponents of the product of all layers from this one",
        "nats a layer",
        role="detail",
        when=_depth,
    ),
    Variable(
        "cumulative_discarded",
        ("model", "layer"),
        "discarded",
        "share of ‖·‖_F that the truncated product discards",
        log=True,
        when=_depth,
    ),
    Variable(
        "surgery_effective_rank",
        ("model", "construction", "dose", "layer", "draw"),
        "PR",
        "effective rank after surgery",
        role="detail",
        when=_surgery,
    ),
    Variable(
        "surgery_moved",
        ("model", "layer"),
        "Δλ",
        "how far control A moves the eigenvalues, over their size",
        when=_surgery,
    ),
    Variable("sample_text", ("model", "sample"), "", "text of the sample", role="detail"),
    Variable("sample_token", ("model", "sample"), "", "token at which the Jacobian is taken", role="detail"),
    Variable("sample_position", ("model", "sample"), "t", "position of that token", "tokens", role="detail"),
)
