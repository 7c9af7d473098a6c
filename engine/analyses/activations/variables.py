"""The variables of a result of the activations analysis."""

from engine.analyses.activations.plan import ActivationsParams
from engine.analyses.variables import Variable

SPLIT = ("model", "split")
SITE = (*SPLIT, "site")
LAYER = (*SITE, "layer")


def _density(params: ActivationsParams) -> bool:
    return params.density


VARIABLES = (
    Variable("alpha_rank", LAYER, "α", "α, slope along rank", summary="mean"),
    Variable("alpha_rank_se", LAYER, "SE(α)", "standard error of α", role="error"),
    Variable("r2", LAYER, "R²", "R² of the power law, high for noise too"),
    Variable("noise_alpha_rank", LAYER, "α", "α along rank of noise", role="null"),
    Variable("trace", LAYER, "tr C", "total variance tr C", log=True),
    Variable("alpha_esd", LAYER, "α_ESD", "α_ESD, exponent of the density", when=_density),
    Variable("alpha_esd_se", LAYER, "SE(α_ESD)", "standard error of α_ESD", role="error", when=_density),
    Variable("xmin", LAYER, "λ_min", "start λ_min of the fitted tail", log=True, when=_density),
    Variable("tail", LAYER, "n_tail", "eigenvalues in the fitted tail", when=_density),
    Variable("ks", LAYER, "KS", "Kolmogorov–Smirnov distance of the density fit", when=_density),
    Variable("esd_p", LAYER, "p of α_ESD", "bootstrap p of the density fit", role="test", when=_density),
    Variable(
        "lognormal_ratio", LAYER, "ln R", "log-likelihood ratio ln R of power law and lognormal", "nats", when=_density
    ),
    Variable("lognormal_p", LAYER, "p of ln R", "p of the likelihood ratio", role="test", when=_density),
    Variable(
        "eigenvalues", (*LAYER, "mode"), "λ", "eigenvalues of the activation covariance", log=True, role="spectrum"
    ),
    Variable(
        "noise_eigenvalues", (*LAYER, "mode"), "λ", "eigenvalues of noise of the same trace", log=True, role="null"
    ),
    Variable("positions_per_dim", SITE, "N/d", "positions per dimension", role="detail"),
    Variable("rank", SITE, "rank", "rank of the covariance, min(N − 1, d)", role="detail"),
    Variable("positions", SPLIT, "N", "positions measured", "tokens", role="detail"),
    Variable("loss", SPLIT, "loss", "mean token loss", "nats a token", role="detail"),
    Variable("perplexity", SPLIT, "perplexity", "perplexity", log=True, role="detail"),
)
