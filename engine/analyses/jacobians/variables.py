"""The variables of a result of the Jacobian analysis."""

from engine.analyses.jacobians.plan import JacobiansParams
from engine.analyses.variables import Reduction, Variable
from engine.studies import cited

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
    name: str, symbol: str, title: str, log: bool = False, summary: Reduction | None = None, reading: str = ""
) -> tuple[Variable, ...]:
    """A statistic of every sample, and its mean with a 95 % interval; of κ, which may be ∞, the median."""
    when = _kappa if name == "kappa" else None
    middle = "median" if name == "kappa" else "mean"
    return (
        Variable(name, SAMPLE, symbol, title, log=log, summary=summary, reading=reading, when=when),
        Variable(
            f"{name}_interval",
            (*HEAD, "bound"),
            symbol,
            f"{title}: {middle} over samples with its 95 % interval",
            log=log,
            role="error",
            when=when,
        ),
    )


VARIABLES = (
    *_sampled("rho", "σ₁", cited("spectral norm σ₁ (ρ in S0 eq. 7)"), log=True, summary="median"),
    *_sampled(
        "delta",
        "δ",
        "δ = σ₂/σ₁",
        reading=cited("a small δ means that one direction dominates; the prose of S0 §5.3 reads δ the other way round"),
    ),
    *_sampled("kappa", "κ", "condition number κ = σ₁/σ_d", log=True),
    Variable(
        "kappa_at_least", SAMPLE, "", "1 where κ is a lower bound: float64 tells no more", role="detail", when=_kappa
    ),
    *_sampled("pr", "PR", "participation ratio PR = (Σσ²)²/Σσ⁴", summary="median"),
    *_sampled("frobenius", "‖J‖_F", "Frobenius norm ‖J‖_F", log=True),
    Variable("henrici", HEAD, "Henrici", "Henrici departure", summary="mean"),
    Variable("self_alignment", HEAD, "self-alignment", "self-alignment", summary="mean"),
    Variable("forward_alignment", HEAD, "forward alignment", "forward alignment"),
    Variable("alignment_gap", HEAD, "1 − σ_k+1/σ_k", "gap 1 − σ_k+1/σ_k after the k-th singular value"),
    Variable("complex_fraction", HEAD, "complex λ", "share of complex λ"),
    Variable("expanding_fraction", HEAD, "|λ| > 1", "share of |λ| > 1"),
    Variable("spectral_radius", HEAD, "|λ₁|", "spectral radius |λ₁|", log=True),
    Variable("residual_norm", HEAD, "‖J − I‖_F/√d", "‖J − I‖_F/√d", log=True),
    Variable("mean_alpha_rank", HEAD, "α", "α of the mean Jacobian"),
    Variable("mean_alpha_rank_se", HEAD, "SE(α)", "standard error of α of the mean Jacobian", role="error"),
    Variable("mean_r2", HEAD, "R²", "R² of the power law of the mean Jacobian"),
    Variable(
        "verified_error", HEAD, "error", "relative difference of closed form and autograd", log=True, role="error"
    ),
    Variable("mean_eigenvalues", (*HEAD, "mode"), "λ", "λ of the mean Jacobian", role="spectrum"),
    Variable("mean_singular_values", (*HEAD, "mode"), "σ", "σ of the mean Jacobian", log=True, role="spectrum"),
    Variable("singular_values", (*SAMPLE, "mode"), "σ", "σ of the samples", log=True, role="spectrum", when=_spectra),
    Variable(
        "column_norm", (*HEAD, "unit"), "‖J eᵢ‖", "column norm ‖J eᵢ‖ of the mean Jacobian", log=True, role="detail"
    ),
    Variable("alignment_baseline", ("model",), "k/d", "alignment of random subspaces", role="null"),
    Variable(
        "cumulative_effective_rank",
        ("model", "layer"),
        "effective rank",
        "effective rank of the product to the last layer",
        log=True,
        when=_depth,
    ),
    Variable(
        "cumulative_singular_values",
        ("model", "layer", "depth_mode"),
        "σ",
        "σ of the product to the last layer",
        log=True,
        role="detail",
        when=_depth,
    ),
    Variable(
        "cumulative_exponents",
        ("model", "layer", "depth_mode"),
        "ln σ/(L − ℓ)",
        "exponents ln σ/(L − ℓ) of the product",
        "nats a layer",
        role="detail",
        when=_depth,
    ),
    Variable(
        "cumulative_discarded",
        ("model", "layer"),
        "discarded",
        "share of ‖·‖_F² discarded by the truncated product",
        log=True,
        when=_depth,
    ),
    Variable(
        "surgery_effective_rank",
        ("model", "construction", "dose", "layer", "draw"),
        "effective rank",
        "effective rank of the product after surgery",
        log=True,
        role="detail",
        when=_surgery,
    ),
    Variable(
        "surgery_moved",
        ("model", "layer"),
        "Δλ",
        "shift Δλ of the eigenvalues by control A, over their size",
        when=_surgery,
    ),
    Variable("sample_text", ("model", "sample"), "", "text of the sample", role="detail"),
    Variable("sample_token", ("model", "sample"), "", "token at which the Jacobian is taken", role="detail"),
    Variable("sample_position", ("model", "sample"), "t", "position of that token", "tokens", role="detail"),
)
