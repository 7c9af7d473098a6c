"""The variables of a result of the gradients analysis."""

from engine.analyses.variables import Variable

SPLIT = ("model", "split")
LAYER = (*SPLIT, "layer")
SAMPLE = (*SPLIT, "sample")

VARIABLES = (
    Variable("alpha_rank", LAYER, "α", "α, slope along rank", summary="mean"),
    Variable("noise_alpha_rank", LAYER, "α", "α along rank of noise", role="null", summary="mean"),
    Variable("pr", LAYER, "PR", "participation ratio (Σσ²)²/Σσ⁴", log=True, summary="mean"),
    Variable("alpha_rank_se", LAYER, "SE(α)", "standard error of α", role="error"),
    Variable("r2", LAYER, "R²", "R² of the power law, high for noise too"),
    Variable("floor", LAYER, "σ_floor", "rounding floor of σ", log=True),
    Variable("sequences", LAYER, "N", "sequences measured"),
    Variable("sequences_per_dim", LAYER, "N/p", "sequences per parameter", log=True),
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
    Variable("loss", SAMPLE, "loss", "mean token loss of the sequence", "nats a token", role="detail"),
    Variable("mean_loss", SPLIT, "loss", "mean token loss", "nats a token", role="detail"),
    Variable("perplexity", SPLIT, "perplexity", "perplexity", log=True, role="detail"),
    Variable("sample_text", SAMPLE, "", "text of the sequence", role="detail"),
)
