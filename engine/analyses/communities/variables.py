"""The variables of a result of the communities analysis."""

from engine.analyses.variables import Reduction, Role, Variable

SITE = ("model", "site")
LAYER = (*SITE, "layer")
UNIT = (*LAYER, "unit")


def _of_layer(
    name: str, symbol: str, title: str, role: Role = "statistic", log: bool = False, summary: Reduction | None = None
) -> Variable:
    return Variable(name, LAYER, symbol, title, log=log, role=role, summary=summary)


def _detail(name: str, dims: tuple[str, ...], title: str, symbol: str = "", role: Role = "detail") -> Variable:
    return Variable(name, dims, symbol, title, role=role)


def _spearman(prefix: str, dims: tuple[str, ...], what: str) -> tuple[Variable, ...]:
    """Spearman's ρ over layers with its 95 % interval, p and number of layers."""
    return (
        _detail(f"{prefix}_rho", dims, f"Spearman’s ρ of {what}", "ρ"),
        _detail(f"{prefix}_low", dims, f"lower end of the 95 % interval of ρ of {what}", "ρ", "error"),
        _detail(f"{prefix}_high", dims, f"upper end of the 95 % interval of ρ of {what}", "ρ", "error"),
        _detail(f"{prefix}_p", dims, f"permutation p of ρ of {what}", "p", "test"),
        _detail(f"{prefix}_n", dims, f"layers behind ρ of {what}", "n"),
    )


VARIABLES = (
    _of_layer("n_communities", "communities", "communities of at least 3 units", summary="mean"),
    _of_layer("cohens_d", "d", "Cohen’s d of column norms, boundary units against the others", summary="mean"),
    _of_layer("cohens_d_low", "d", "lower end of the 95 % interval of Cohen’s d"),
    _of_layer("cohens_d_high", "d", "upper end of the 95 % interval of Cohen’s d"),
    _of_layer("p_value", "p", "permutation p of Cohen’s d", "test"),
    _of_layer("q_value", "q", "Benjamini–Hochberg q of Cohen’s d", "test", summary="significant"),
    _of_layer("variance_captured", "‖BᵀJB‖²/‖J‖²", "variance captured by the communities"),
    _of_layer("variance_null_mean", "mean", "variance captured by random partitions, mean"),
    _of_layer("variance_null_std", "std", "variance captured by random partitions, standard deviation"),
    _of_layer("variance_z", "z", "captured variance, z against random partitions", summary="mean"),
    _of_layer("variance_p", "p", "one-sided p of captured variance", "test"),
    _of_layer("variance_q", "q", "Benjamini–Hochberg q of captured variance"),
    _of_layer("variance_change", "|Δ captured|", "change of captured variance to the next layer"),
    _of_layer("mesoscale_sigma", "σ₁", "largest singular value of BᵀJB"),
    _of_layer("sigma_change", "|Δσ₁|", "change of σ₁ of BᵀJB to the next layer"),
    _of_layer("sigma", "σ₁", "largest singular value of the mean Jacobian", log=True),
    _of_layer("self_alignment", "self-align.", "self-alignment of the mean Jacobian"),
    _of_layer("nmi_next", "NMI", "NMI with the next layer"),
    _of_layer("ari_next", "ARI", "ARI with the next layer"),
    _of_layer("disruption", "1 − NMI", "disruption: 1 − NMI with the next layer"),
    _of_layer("quality", "quality", "quality of the best partition"),
    _of_layer("n_degenerate", "degenerate", "communities of fewer than 3 units"),
    _of_layer("n_constant", "constant", "units that do not vary"),
    _of_layer("n_edges", "edges", "edges of the graph"),
    _of_layer("n_samples", "N", "samples behind each correlation"),
    _of_layer("negative_share", "share r < 0", "share of negative edges"),
    _of_layer("weakest_edge", "min |r|", "weakest edge"),
    _of_layer("significant_share", "share", "share of edges beyond what chance reaches"),
    _of_layer("significant_correlation", "|r|", "correlation beyond what chance reaches"),
    _of_layer("tail_top", "n", "units in the top tail of participation"),
    _of_layer("tail_bottom", "n", "units in the bottom tail of participation"),
    _detail("membership", UNIT, "community of the unit, by descending size"),
    _detail("participation", UNIT, "participation of the unit", "P"),
    _detail("within_degree_z", UNIT, "degree within the community, z", "z"),
    _detail("degree", UNIT, "sum of |r| of the unit’s edges", "Σ|r|"),
    _detail("column_norm", UNIT, "column norm ‖J eᵢ‖ of the mean Jacobian", "‖J eᵢ‖"),
    _detail("position", (*UNIT, "xy"), "place of the unit in the drawing"),
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
    Variable("detector_cohens_d", (*LAYER, "detector"), "d", "Cohen’s d of each detector"),
    Variable("detector_p_value", (*LAYER, "detector"), "p", "permutation p of each detector"),
    Variable("detector_q_value", (*LAYER, "detector"), "q", "Benjamini–Hochberg q of each detector"),
    Variable("detector_variance_z", (*LAYER, "detector"), "z", "captured variance of each detector, z"),
    Variable("detector_n_communities", (*LAYER, "detector"), "communities", "communities of each detector"),
    _detail("detector_mean_d", (*SITE, "detector"), "mean over layers of Cohen’s d", "d"),
    _detail("detector_median_d", (*SITE, "detector"), "median over layers of Cohen’s d", "d"),
    _detail("detector_significant_share", (*SITE, "detector"), "share of layers with q < 0.05"),
    *_spearman("coupling", SITE, "self-alignment and Cohen’s d"),
    *_spearman("rate", (*SITE, "rate"), "disruption and change of the projected operator"),
    _detail("noise_correlation", ("model",), "|r| of unrelated units, about 1/√N", "|r|", "null"),
    _detail("alignment_baseline", ("model",), "alignment of random subspaces", "k/d", "null"),
    *(
        Variable(name, dims, symbol, title, role="detail")
        for name, dims, symbol, title in (
            ("gamma_grid", ("model", "gamma"), "γ⁺", "resolutions tried"),
            ("gamma_nmi", ("model", "profiled", "gamma"), "NMI", "agreement of partitions of different seeds"),
            ("gamma_communities", ("model", "profiled", "gamma"), "communities", "communities at each resolution"),
            ("gamma_covered", ("model", "profiled", "gamma"), "share", "share of units in communities of 3 or more"),
            ("gamma_profile", ("model", "gamma"), "NMI", "stability profile: mean agreement over layers"),
            ("profiled_layer", ("model", "profiled"), "layer", "layers of the stability profile"),
        )
    ),
    _detail("gamma_chosen", ("model",), "resolution γ⁺", "γ⁺"),
    _detail("gamma_reason", ("model",), "why this resolution"),
)
