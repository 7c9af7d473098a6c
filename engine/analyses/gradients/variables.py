"""The variables of a result of the gradients analysis."""

from engine.analyses.variables import Variable

SPLIT = ("model", "split")
LAYER = (*SPLIT, "layer")
SAMPLE = (*SPLIT, "sample")

VARIABLES = (
    Variable("alpha_rank", LAYER, "α", "α along rank", summary="mean"),
    Variable("noise_alpha_rank", LAYER, "α", "α along rank of noise", role="null", summary="mean"),
    Variable("pr", LAYER, "PR", "participation ratio", summary="mean"),
    Variable("alpha_rank_se", LAYER, "SE(α)", "standard error of α along rank", role="error"),
    Variable("r2", LAYER, "R²", "R² of the fit"),
    Variable("floor", LAYER, "σ_floor", "σ below which rounding decides", log=True),
    Variable("sequences", LAYER, "N", "sequences measured"),
    Variable("sequences_per_dim", LAYER, "N/p", "sequences a parameter", log=True),
    Variable("singular_values", (*LAYER, "mode"), "σ", "singular values", log=True, role="spectrum"),
    Variable(
        "noise_singular_values",
        (*LAYER, "mode"),
        "σ",
        "singular values of noise of the same trace",
        log=True,
        role="null",
    ),
    Variable("parameters", ("model", "layer"), "p", "parameters of the weight"),
    Variable("weight", ("model", "layer"), "", "name of the weight", role="detail"),
    Variable("loss", SAMPLE, "loss", "mean token loss of the sequence", "nats", role="detail"),
    Variable("mean_loss", SPLIT, "loss", "mean token loss", "nats", role="detail"),
    Variable("perplexity", SPLIT, "perplexity", "perplexity", role="detail"),
    Variable("sample_text", SAMPLE, "", "text of the sequence", role="detail"),
)
