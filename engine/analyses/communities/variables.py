"""The variables of a result of the communities analysis."""

from engine.analyses.variables import Reduction, Role, Variable

SITE = ("model", "site")
LAYER = (*SITE, "layer")
UNIT = (*LAYER, "unit")
DETECTOR = (*LAYER, "detector")


def _of_layer(
    name: str,
    symbol: str,
    title: str,
    role: Role = "statistic",
    log: bool = False,
    summary: Reduction | None = None,
    reading: str = "",
) -> Variable:
    return Variable(name, LAYER, symbol, title, log=log, role=role, summary=summary, reading=reading)


def _detail(
    name: str, dims: tuple[str, ...], title: str, symbol: str = "", role: Role = "detail", reading: str = ""
) -> Variable:
    return Variable(name, dims, symbol, title, role=role, reading=reading)


def _spearman(prefix: str, dims: tuple[str, ...], what: str) -> tuple[Variable, ...]:
    """Spearman's ρ over layers with its 95 % interval, p and number of layers."""
    return (
        _detail(f"{prefix}_rho", dims, f"Spearman’s ρ of {what}", "ρ"),
        _detail(f"{prefix}_low", dims, f"lower end of the 95 % interval of ρ of {what}", "ρ", "error"),
        _detail(f"{prefix}_high", dims, f"upper end of the 95 % interval of ρ of {what}", "ρ", "error"),
        _detail(f"{prefix}_p", dims, f"p of ρ of {what}, by permutation and against correlated layers", "p", "test"),
        _detail(f"{prefix}_n", dims, f"layers correlated in ρ of {what}", "n"),
    )


VARIABLES = (
    _of_layer("n_communities", "communities", "communities of at least 3 units", summary="mean"),
    _of_layer(
        "cohens_d",
        "Cohen’s d",
        "Cohen’s d of column norms at boundaries",
        summary="mean",
        reading="boundary units against those inside a community",
    ),
    _of_layer("cohens_d_low", "Cohen’s d", "lower end of the 95 % interval of Cohen’s d", "error"),
    _of_layer("cohens_d_high", "Cohen’s d", "upper end of the 95 % interval of Cohen’s d", "error"),
    _of_layer("p_value", "p", "permutation p of Cohen’s d", "test"),
    _of_layer(
        "q_value",
        "q",
        "Benjamini–Hochberg q of Cohen’s d",
        "test",
        summary="significant",
        reading="false discovery rate over the layers",
    ),
    _of_layer("variance_captured", "‖BᵀJB‖²/‖J‖²", "variance captured by the communities"),
    _of_layer("variance_null_mean", "mean", "variance captured by random partitions, mean", "null"),
    _of_layer("variance_null_std", "std", "variance captured by random partitions, standard deviation", "null"),
    _of_layer(
        "variance_z", "z of captured variance", "z of captured variance against random partitions", summary="mean"
    ),
    _of_layer("variance_p", "p", "one-sided p of captured variance", "test"),
    _of_layer("variance_q", "q", "Benjamini–Hochberg q of captured variance", "test"),
    _of_layer("variance_change", "|Δ captured variance|", "|Δ captured variance| to the next layer"),
    _of_layer("mesoscale_sigma", "σ₁", "largest singular value σ₁ of BᵀJB"),
    _of_layer("sigma_change", "|Δσ₁|", "|Δσ₁| of BᵀJB to the next layer"),
    _of_layer("sigma", "σ₁", "largest singular value σ₁ of the mean Jacobian", log=True),
    _of_layer("self_alignment", "self-alignment", "self-alignment of the mean Jacobian"),
    _of_layer("nmi_next", "NMI", "NMI with the next layer"),
    _of_layer("ari_next", "ARI", "ARI with the next layer"),
    _of_layer("disruption", "disruption", "disruption: 1 − NMI with the next layer"),
    _of_layer("quality", "quality", "quality of the best partition"),
    _of_layer("n_degenerate", "degenerate", "units in degenerate communities, of fewer than 3"),
    _of_layer("n_constant", "constant", "units that do not vary"),
    _of_layer("n_edges", "edges", "edges of the graph"),
    _of_layer("n_samples", "N", "samples behind each correlation"),
    _of_layer("negative_share", "r < 0", "share of edges with r < 0"),
    _of_layer("weakest_edge", "min |r|", "weakest edge, min |r|"),
    _of_layer("significant_share", "significant edges", "share of significant edges"),
    _of_layer("significant_correlation", "|r|", "|r| above which an edge is significant", "null"),
    _of_layer("tail_top", "n", "units in the top tail of participation"),
    _of_layer("tail_bottom", "n", "units in the bottom tail of participation"),
    _detail("membership", UNIT, "community of the unit", "community", reading="number by descending size"),
    _detail(
        "participation",
        UNIT,
        "participation of the unit",
        "participation",
        reading="how evenly its edges spread over the communities",
    ),
    _detail(
        "within_degree_z",
        UNIT,
        "degree within the community",
        "degree within",
        reading="z-score over the units of the community",
    ),
    _detail("degree", UNIT, "degree Σ|r| of the unit", "Σ|r|"),
    Variable(
        "column_norm",
        UNIT,
        "‖J eᵢ‖",
        "column norm ‖J eᵢ‖ of the mean Jacobian",
        log=True,
        role="detail",
        reading="how strongly the unit is passed on",
    ),
    _detail("position", (*UNIT, "xy"), "position of the unit in the drawing"),
    _detail("order", (*LAYER, "rank"), "units, those of a community beside each other"),
    _detail("edge_source", (*LAYER, "edge"), "first unit of the edge"),
    _detail("edge_target", (*LAYER, "edge"), "second unit of the edge"),
    _detail("edge_weight", (*LAYER, "edge"), "correlation of the edge", "r"),
    _detail("correlation_tiles", (*LAYER, "row", "column"), "correlations of all pairs, in tiles", "r"),
    _detail("community_size", (*LAYER, "community"), "units of the community"),
    _detail("community_correlation", (*LAYER, "community", "community_to"), "mean correlation of two communities", "r"),
    _detail("lineage", (*LAYER, "community"), "line through the layers that the community belongs to"),
    _detail("restart_quality", (*LAYER, "restart"), "quality of each restart"),
    _detail("flow_source", (*LAYER, "flow"), "community that units leave"),
    _detail("flow_target", (*LAYER, "flow"), "community of the next layer that they join"),
    _detail("flow_units", (*LAYER, "flow"), "units that go this way"),
    Variable("detector_cohens_d", DETECTOR, "Cohen’s d", "Cohen’s d of each detector"),
    Variable("detector_p_value", DETECTOR, "p", "permutation p of each detector", role="test"),
    Variable("detector_q_value", DETECTOR, "q", "Benjamini–Hochberg q of each detector", role="test"),
    Variable("detector_variance_z", DETECTOR, "z of captured variance", "z of captured variance of each detector"),
    Variable("detector_n_communities", DETECTOR, "communities", "communities of each detector"),
    _detail("detector_mean_d", (*SITE, "detector"), "mean d over the layers", "mean d"),
    _detail("detector_median_d", (*SITE, "detector"), "median d over the layers", "median d"),
    _detail("detector_significant_share", (*SITE, "detector"), "share of layers with q < 0.05", "layers with q < 0.05"),
    *_spearman("coupling", SITE, "self-alignment and Cohen’s d"),
    *_spearman("rate", (*SITE, "rate"), "disruption and change of the projected operator"),
    _detail("noise_correlation", ("model",), "|r| of unrelated units, about 1/√N", "|r|", "null"),
    _detail("alignment_baseline", ("model",), "alignment of random subspaces", "k/d", "null"),
    *(
        Variable(name, dims, symbol, title, role="detail")
        for name, dims, symbol, title in (
            ("gamma_grid", ("model", "gamma"), "γ⁺", "resolution γ⁺"),
            ("gamma_nmi", ("model", "profiled", "gamma"), "NMI", "mean pairwise NMI of different seeds"),
            ("gamma_communities", ("model", "profiled", "gamma"), "communities", "communities of at least 3 units"),
            ("gamma_covered", ("model", "profiled", "gamma"), "share", "share of units in these communities"),
            ("gamma_profile", ("model", "gamma"), "NMI", "mean pairwise NMI over the profiled layers"),
            ("profiled_layer", ("model", "profiled"), "layer", "profiled layer"),
        )
    ),
    _detail("gamma_chosen", ("model",), "chosen resolution γ⁺", "γ⁺"),
    _detail("gamma_reason", ("model",), "reason for this resolution"),
)
