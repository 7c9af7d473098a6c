"""The variables of a result of the weights analysis."""

from collections.abc import Iterator

from engine.analyses.variables import Variable
from engine.analyses.weights.plan import WeightsParams

HEAD = ("model", "layer", "head")
MODE = (*HEAD, "mode")
TESTED = {"leading": "λ₁", "npr": "NPR", "entropy": "entropy", "kappa": "κ"}


def _folded(params: WeightsParams) -> bool:
    return params.fold_norm


def _shared(params: WeightsParams) -> bool:
    return not params.fold_norm


def _shuffled(params: WeightsParams) -> bool:
    return params.shuffled


def _statistics(prefix: str, product: str) -> Iterator[Variable]:
    """Statistics of the spectrum of W_QK (no prefix) or of W_OV."""
    qk = not prefix
    yield Variable(
        f"{prefix}leading", HEAD, "λ₁", f"leading eigenvalue λ₁ of {product}", log=True, summary="mean" if qk else None
    )
    yield Variable(f"{prefix}npr", HEAD, "NPR", f"NPR (PR / d_h) of {product}", summary="mean" if qk else None)
    yield Variable(
        f"{prefix}entropy", HEAD, "H", f"spectral entropy of {product}", "nats", summary="mean" if qk else None
    )
    yield Variable(
        f"{prefix}kappa", HEAD, "κ", f"condition number κ of {product}", log=True, summary="mean" if qk else None
    )
    yield Variable(f"{prefix}pr", HEAD, "PR", f"participation ratio of {product}")
    yield Variable(f"{prefix}lambda_sum", HEAD, "Σλ", f"Σλ of {product}", log=True)
    yield Variable(f"{prefix}lambda_sq_sum", HEAD, "Σλ²", f"Σλ² of {product}", log=True)
    for law, title in (("naive", "Marchenko–Pastur"), ("law", "product-law")):
        yield Variable(
            f"{prefix}outside_{law}",
            HEAD,
            f"n outside {law}",
            f"eigenvalues of {product} outside the {title} edges",
            heads="sum",
            summary="sum" if qk else None,
        )
    yield Variable(
        f"{prefix}unit_scale",
        HEAD,
        "d²σ₁²σ₂²",
        f"unit of the null of {product}: d² times both entry variances",
        log=True,
    )


def _nulls(prefix: str, product: str) -> Iterator[Variable]:
    """Null levels, p- and q-values of the tested statistics; with a folded norm every layer has a null of its own."""
    for name, symbol in TESTED.items():
        what = f"null quantiles of {symbol} of {product}"
        yield Variable(f"{prefix}null_{name}", ("model", "quantile"), symbol, what, role="null", when=_shared)
        yield Variable(f"{prefix}null_{name}", ("model", "layer", "quantile"), symbol, what, role="null", when=_folded)
    what = f"null quantiles of the eigenvalues of {product} by rank"
    yield Variable(f"{prefix}null_quantiles", ("model", "quantile", "mode"), "λ", what, role="null", when=_shared)
    dims = ("model", "layer", "quantile", "mode")
    yield Variable(f"{prefix}null_quantiles", dims, "λ", what, role="null", when=_folded)
    for name, symbol in TESTED.items():
        for test, title in (("p", "two-sided p"), ("q", "Benjamini–Hochberg q")):
            counted = not prefix and test == "q" and name in ("leading", "npr")
            yield Variable(
                f"{prefix}{test}_{name}",
                HEAD,
                f"{test}({symbol})",
                f"{title} of {symbol} of {product}",
                role="test",
                heads="significant",
                summary="significant" if counted else None,
            )
    yield Variable(f"{prefix}null_radius", HEAD, "r", f"radius of the null disc of {product}", role="null")


def _spectra(which: str, product: str) -> Iterator[Variable]:
    yield Variable(f"{which}_complex_eigenvalues", MODE, "λ", f"λ of {product}", role="spectrum")
    yield Variable(f"{which}_eigenvalues", MODE, "σ²", f"σ² of {product}", log=True, role="spectrum")
    yield Variable(
        f"{which}_density", (*HEAD, "bin"), "P(λ)", f"density of the eigenvalues of {product}", log=True, role="detail"
    )


def _entries(weight: str, product: str) -> Iterator[Variable]:
    """Moments and quantiles of the entries of one matrix."""
    for moment, title in (
        ("mean", "mean"),
        ("std", "standard deviation σ"),
        ("skew", "skewness"),
        ("kurtosis", "excess kurtosis"),
    ):
        yield Variable(
            f"{weight}_{moment}",
            HEAD,
            f"{moment} {product}",
            f"{title} of the entries of {product}",
            log=moment == "std",
        )
    yield Variable(
        f"{weight}_quantiles",
        (*HEAD, "probability"),
        f"quantiles {product}",
        f"quantiles of the standardised entries of {product}",
        role="detail",
    )


VARIABLES = (
    *_statistics("", "W_QK"),
    *_statistics("ov_", "W_OV"),
    *_spectra("qk", "W_QK"),
    *_spectra("ov", "W_OV"),
    Variable(
        "shuffled_qk_eigenvalues", MODE, "σ²", "σ² of W_QK with shuffled entries", log=True, role="null", when=_shuffled
    ),
    *_nulls("", "W_QK"),
    *_nulls("ov_", "W_OV"),
    *_entries("wq", "W_Q"),
    *_entries("wk", "W_K"),
    *_entries("wqk", "W_QK"),
    Variable("bin_edges", ("bin_edge",), "λ", "edges of the density's bins", log=True, role="detail"),
    Variable("law_x", ("model", "law_point"), "x", "eigenvalue in units of the null", log=True, role="null"),
    Variable("law_density", ("model", "law_point"), "P(x)", "density of the product law", role="null"),
    Variable("naive_density", ("model", "law_point"), "P(x)", "density of the Marchenko–Pastur law", role="null"),
    Variable("law_edges", ("model", "edge"), "x±", "edges of the product law", role="null"),
    Variable("naive_edges", ("model", "edge"), "x±", "edges of the Marchenko–Pastur law", role="null"),
    Variable(
        "storage_floor", ("model",), "ε", "share of λ₁ below which stored rounding decides", log=True, role="detail"
    ),
)
