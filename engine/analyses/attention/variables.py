"""The variables of a result of the attention analysis."""

from collections.abc import Iterator

from engine.analyses.attention.plan import AttentionParams
from engine.analyses.variables import Variable

HEAD = ("model", "layer", "head")
SAMPLE = (*HEAD, "sample")


def _singular(params: AttentionParams) -> bool:
    return params.singular_values


def _shown(params: AttentionParams) -> bool:
    return params.shown > 0


def _lengths(params: AttentionParams) -> bool:
    return params.length_samples > 0


def _sweep(params: AttentionParams) -> bool:
    return params.sweep_samples > 0


def _norm(name: str, norm: str, exponent: str) -> Iterator[Variable]:
    """A norm against the number of tokens n, and the laws fitted to it."""
    variable = f"norm_{name}"
    yield Variable(
        f"{variable}_exponent",
        HEAD,
        f"{exponent} of {norm} ∝ n^{exponent}",
        f"exponent {exponent} of {norm} ∝ n^{exponent}",
        when=_lengths,
    )
    yield Variable(
        f"{variable}_exponent_se", HEAD, f"SE({exponent})", f"standard error of {exponent}", role="error", when=_lengths
    )
    yield Variable(
        variable, (*SAMPLE, "length"), norm, f"{norm} against length", log=True, role="detail", when=_lengths
    )
    yield Variable(f"{variable}_aic", (*HEAD, "law"), "AIC", f"AIC of each law of {norm}", role="detail", when=_lengths)
    yield Variable(
        f"{variable}_coefficients",
        (*HEAD, "law", "coefficient"),
        "c",
        f"coefficients of each law of {norm}",
        role="detail",
        when=_lengths,
    )


def _thinned(name: str, symbol: str, title: str) -> Iterator[Variable]:
    """A statistic against the share of weights taken away: mean and standard deviation over samples."""
    for end, what in (("", "mean over samples"), ("_std", "standard deviation over samples")):
        yield Variable(
            f"sweep_{name}{end}",
            (*HEAD, "dose"),
            symbol,
            f"{title} of thinned matrices, {what}",
            role="error" if end else "detail",
            when=_sweep,
        )


VARIABLES = (
    Variable("concentration", SAMPLE, "|λ₁|²/Σ|λ|²", "concentration |λ₁|²/Σ|λ|² of the eigenvalues"),
    Variable("entropy", SAMPLE, "H̄", "mean entropy of the rows", "nats", summary="mean"),
    Variable("exp_entropy", SAMPLE, "exp H̄", "tokens that a token reads, exp H̄"),
    Variable(
        "erank", SAMPLE, "erank", "effective rank erank, exp of the entropy of σ/Σσ", summary="mean", when=_singular
    ),
    Variable("r_l1l2", SAMPLE, "(Σσ)²/Σσ²", "effective rank (Σσ)²/Σσ²", when=_singular),
    Variable("stable_rank", SAMPLE, "‖A‖_F²/‖A‖₂²", "stable rank"),
    Variable("frobenius", SAMPLE, "‖A‖_F", "Frobenius norm ‖A‖_F, between 1 and √T"),
    Variable("spectral_norm", SAMPLE, "‖A‖₂", "spectral norm ‖A‖₂, between 1 and √T", summary="mean"),
    Variable("alpha_rank", SAMPLE, "α", "exponent α of σᵢ ∝ i^−α", summary="mean", when=_singular),
    Variable("top_eigenvalue", SAMPLE, "|λ₁|", "largest eigenvalue |λ₁|, 1 where rows sum to 1"),
    Variable("second_eigenvalue", SAMPLE, "|λ₂|", "second largest eigenvalue |λ₂|"),
    Variable("r2", SAMPLE, "R²", "R² of the fit of α, high for noise too", when=_singular),
    Variable("sparsity", SAMPLE, "sparsity", "sparsity, share of allowed weights below ε/T"),
    Variable("sink", SAMPLE, "sink", "sink, mean weight of the other tokens on the first", summary="mean"),
    Variable("alpha_rank_se", SAMPLE, "SE(α)", "standard error of α", role="error", when=_singular),
    Variable("eigenvalues", (*SAMPLE, "mode"), "λ", "eigenvalues", role="spectrum"),
    Variable("singular_values", (*SAMPLE, "mode"), "σ", "singular values", log=True, role="spectrum", when=_singular),
    *_norm("spectral", "‖A‖₂", "b"),
    *_norm("frobenius", "‖A‖_F", "a"),
    Variable(
        "norm_spectral_of_bound",
        HEAD,
        "‖A‖₂/√n",
        "‖A‖₂/√n, share of the exact bound at the longest length",
        when=_lengths,
    ),
    *_thinned("erank", "erank", "effective rank"),
    *_thinned("r_l1l2", "(Σσ)²/Σσ²", "effective rank (Σσ)²/Σσ²"),
    *_thinned("spectral_norm", "‖A‖₂", "spectral norm"),
    *_thinned("output_error", "‖(A_s − A)V‖_F/‖AV‖_F", "output error"),
    *_thinned("expressivity", "erank/T", "normalised effective rank"),
    Variable(
        "sweep_margin", (*HEAD, "dose"), "2 − ‖A‖₂", "stability margin of thinned matrices", role="detail", when=_sweep
    ),
    Variable("sweep_crossing", HEAD, "s*", "sparsity s* at which erank/T meets 2 − ‖A‖₂", when=_sweep),
    Variable(
        "noise_singular_values",
        ("model", "mode"),
        "σ",
        "singular values of noise",
        log=True,
        role="null",
        when=_singular,
    ),
    Variable("noise_alpha_rank", ("model",), "α", "α along rank of noise", role="null", when=_singular),
    Variable(
        "matrices",
        (*HEAD, "shown", "query", "key"),
        "A",
        "kept attention matrices",
        role="detail",
        when=_shown,
    ),
    Variable("token", ("model", "shown", "query"), "", "tokens of the kept matrices", role="detail", when=_shown),
    Variable("causal", ("model",), "", "whether no token attends to a later one", role="detail"),
    Variable("tokens", ("model", "sample"), "T", "tokens of the sample", "tokens", role="detail"),
    Variable("sample_text", ("model", "sample"), "", "text of the sample", role="detail"),
    Variable("length_text", ("model", "sample"), "", "text cut to several lengths", role="detail", when=_lengths),
)
