"""The variables of a result of the weights analysis."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from engine.analyses.variables import Reduction, Variable
from engine.analyses.weights.plan import WeightsParams

HEAD = ("model", "layer", "head")
MODE = (*HEAD, "mode")
TESTED = ("leading", "npr", "entropy", "kappa")
"""Statistics of a spectrum that have a Monte Carlo null, p and q."""


def _folded(params: WeightsParams) -> bool:
    return params.fold_norm


def _shared(params: WeightsParams) -> bool:
    return not params.fold_norm


def _shuffled(params: WeightsParams) -> bool:
    return params.shuffled


def _statistics(prefix: str, product: str) -> tuple[Variable, ...]:
    """Statistics of the spectrum of W_QK (no prefix) or of W_OV."""

    def statistic(
        name: str, symbol: str, title: str, unit: str = "", *, log: bool = False, table: bool = False, reading: str = ""
    ) -> Variable:
        summary: Reduction | None = "mean" if table and not prefix else None
        return Variable(prefix + name, HEAD, symbol, title, unit, of=product, log=log, summary=summary, reading=reading)

    def outside(name: str, law: str) -> Variable:
        return Variable(
            f"{prefix}outside_{name}",
            HEAD,
            f"outside {law}",
            f"eigenvalues outside {law} edges",
            of=product,
            heads="sum",
            summary=None if prefix else "sum",
        )

    return (
        statistic(
            "leading", "λ₁", "leading eigenvalue λ₁", log=True, table=True, reading="in the units of the weights"
        ),
        statistic(
            "npr",
            "NPR",
            "NPR (PR / d_h)",
            table=True,
            reading="normalised participation ratio: 1 when all eigenvalues are equal, 1/d_h when one dominates",
        ),
        statistic(
            "entropy",
            "H",
            "spectral entropy H",
            "nats",
            table=True,
            reading="ln d_h when all eigenvalues are equal, 0 when one dominates",
        ),
        statistic("kappa", "κ", "condition number κ", log=True, table=True, reading="λ₁ over the smallest, λ_dh"),
        statistic("pr", "PR", "participation ratio PR"),
        statistic("lambda_sum", "Σλ", "Σλ", log=True),
        statistic("lambda_sq_sum", "Σλ²", "Σλ²", log=True),
        outside("naive", "MP"),
        outside("law", "product law"),
        statistic("unit_scale", "d²σ²σ′²", "null unit d²σ²σ′²", log=True),
    )


def _nulls(prefix: str, statistics: Mapping[str, Variable]) -> Iterator[Variable]:
    """Null levels, p- and q-values of the tested statistics; with a folded norm every layer has a null of its own."""
    tested = {name: statistics[prefix + name] for name in TESTED}
    product = tested["leading"].of
    for place, when in ((("model",), _shared), (("model", "layer"), _folded)):
        for name, variable in tested.items():
            null = Variable(
                f"{prefix}null_{name}",
                (*place, "quantile"),
                variable.symbol,
                f"null quantiles of {variable.symbol}",
                variable.unit,
                product,
                role="null",
                when=when,
            )
            yield from _by_width(null) if when is _shared else (null,)
        bands = Variable(
            f"{prefix}null_quantiles",
            (*place, "quantile", "mode"),
            "λ",
            "null quantiles of λ by rank",
            of=product,
            role="null",
            when=when,
        )
        yield from _by_width(bands) if when is _shared else (bands,)
    for name, variable in tested.items():
        for test, title in (("p", "two-sided p"), ("q", "Benjamini–Hochberg q")):
            counted = not prefix and test == "q" and name in ("leading", "npr")
            yield Variable(
                f"{prefix}{test}_{name}",
                HEAD,
                f"{test}({variable.symbol})",
                f"{title} of {variable.symbol}",
                of=product,
                role="test",
                heads="significant",
                summary="significant" if counted else None,
            )
    yield Variable(f"{prefix}null_radius", HEAD, "√(d·d_h) σσ′", "radius of the null disc", of=product, role="null")


def _by_width(variable: Variable) -> tuple[Variable, Variable]:
    """A variable of a model's widest heads, and the same for each width of head that its layers have."""
    title = f"{variable.long_name}, by head width"
    dims = ("model", "width", *variable.dims[1:])
    return variable, replace(variable, name=f"{variable.name}_by_width", dims=dims, long_name=title, uneven=True)


def _spectra(which: str, product: str) -> tuple[Variable, ...]:
    return (
        Variable(f"{which}_complex_eigenvalues", MODE, "λ", "complex eigenvalues λ", of=product, role="spectrum"),
        Variable(f"{which}_eigenvalues", MODE, "λ", "eigenvalues λ = σ²", of=product, log=True, role="spectrum"),
        Variable(f"{which}_density", (*HEAD, "bin"), "P(λ)", "density P(λ)", of=product, log=True, role="detail"),
    )


def _entries(weight: str, matrix: str) -> Iterator[Variable]:
    """Moments and quantiles of the entries of one matrix."""
    for moment, symbol, title in (
        ("mean", "mean", "mean"),
        ("std", "σ", "standard deviation σ"),
        ("skew", "skewness", "skewness"),
        ("kurtosis", "excess kurtosis", "excess kurtosis"),
    ):
        yield Variable(f"{weight}_{moment}", HEAD, symbol, f"{title} of the entries", of=matrix, log=moment == "std")
    yield Variable(
        f"{weight}_quantiles",
        (*HEAD, "probability"),
        "quantile",
        "quantile of the entries",
        "σ",
        of=matrix,
        role="detail",
    )


_QK, _OV = _statistics("", "W_QK"), _statistics("ov_", "W_OV")

VARIABLES = (
    *_QK,
    *_OV,
    *_spectra("qk", "W_QK"),
    *_spectra("ov", "W_OV"),
    Variable(
        "shuffled_qk_eigenvalues",
        MODE,
        "λ",
        "eigenvalues λ = σ² with shuffled entries",
        of="W_QK",
        log=True,
        role="null",
        when=_shuffled,
    ),
    *_nulls("", {variable.name: variable for variable in _QK}),
    *_nulls("ov_", {variable.name: variable for variable in _OV}),
    *_entries("wq", "W_Q"),
    *_entries("wk", "W_K"),
    *_entries("wqk", "W_QK"),
    Variable("bin_edges", ("bin_edge",), "λ", "edges of the density's bins", log=True, role="detail"),
    *(
        each
        for variable in (
            Variable(
                "law_x", ("model", "law_point"), "λ / d²σ²σ′²", "eigenvalue in units of the null", log=True, role="null"
            ),
            Variable("law_density", ("model", "law_point"), "P(λ)", "product law (two matrices)", role="null"),
            Variable(
                "naive_density", ("model", "law_point"), "P(λ)", "Marchenko–Pastur (naive: one matrix)", role="null"
            ),
            Variable("law_edges", ("model", "edge"), "λ±", "edges of the product law", role="null"),
            Variable("naive_edges", ("model", "edge"), "λ±", "edges of the Marchenko–Pastur law", role="null"),
        )
        for each in _by_width(variable)
    ),
    Variable(
        "storage_floor", ("model",), "ε", "share of λ₁ below which stored rounding decides", log=True, role="detail"
    ),
)
