"""The variables of a result of the activations analysis."""

from engine.analyses.activations.plan import ActivationsParams
from engine.analyses.variables import Variable

SPLIT = ("model", "split")
SITE = (*SPLIT, "site")
LAYER = (*SITE, "layer")


def _density(params: ActivationsParams) -> bool:
    return params.density


VARIABLES = (
    Variable("alpha_rank", LAYER, "α", "α along rank", summary="mean"),
    Variable("alpha_rank_se", LAYER, "SE(α)", "standard error of α along rank", role="error"),
    Variable("r2", LAYER, "R²", "R² of the fit"),
    Variable("noise_alpha_rank", LAYER, "α", "α along rank of noise", role="null"),
    Variable("trace", LAYER, "Σλ", "total variance Σλ", log=True),
    Variable("alpha_esd", LAYER, "α", "α of the density", when=_density),
    Variable("alpha_esd_se", LAYER, "SE(α)", "standard error of α of the density", role="error", when=_density),
    Variable("xmin", LAYER, "λ_min", "where the tail of the density begins", log=True, when=_density),
    Variable("tail", LAYER, "n_tail", "eigenvalues in the tail of the density", when=_density),
    Variable("ks", LAYER, "KS", "Kolmogorov–Smirnov distance of the density fit", when=_density),
    Variable("esd_p", LAYER, "p", "bootstrap p of the density fit", role="test", when=_density),
    Variable(
        "lognormal_ratio", LAYER, "ln R", "log-likelihood ratio of power law and lognormal", "nats", when=_density
    ),
    Variable("lognormal_p", LAYER, "p", "p of that ratio", role="test", when=_density),
    Variable(
        "eigenvalues", (*LAYER, "mode"), "λ", "eigenvalues of the activation covariance", log=True, role="spectrum"
    ),
    Variable(
        "noise_eigenvalues", (*LAYER, "mode"), "λ", "eigenvalues of noise of the same trace", log=True, role="null"
    ),
    Variable("positions_per_dim", SITE, "N/d", "positions a dimension", role="detail"),
    Variable("rank", SITE, "rank", "eigenvalues that can differ from zero", role="detail"),
    Variable("positions", SPLIT, "N", "positions measured", "tokens", role="detail"),
    Variable("loss", SPLIT, "loss", "mean token loss", "nats", role="detail"),
    Variable("perplexity", SPLIT, "perplexity", "perplexity", role="detail"),
)
