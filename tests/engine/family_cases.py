"""Cases of the families that differ little from another: `FAMILY_CASES` are tapped, `FAMILY_BLOCKS` compared whole."""

from typing import Any

import transformers as hf
from adapter_case import GQA, SLIDING, SMALL, THETA, Case, rope

WIDE = GQA | {"head_dim": 8}
BARE = SMALL | {"intermediate_size": 32}
GPT: dict[str, Any] = {"n_embd": 24, "n_layer": 2, "n_head": 4, "vocab_size": 50, "n_positions": 64}
PARTIAL = dict(rope_type="default", partial_rotary_factor=0.5, **THETA)
BERT = "encoder.layer"

FAMILY_CASES: dict[str, Case] = {
    "gemma": Case(hf.GemmaConfig(**GQA, head_dim=8, attention_bias=True, rms_norm_eps=1e-4), mlp="gated"),
    "granite": Case(
        hf.GraniteConfig(**GQA, attention_multiplier=0.3, residual_multiplier=0.5, rope_parameters=rope("linear")),
        mlp="gated",
    ),
    "smollm3": Case(
        hf.SmolLM3Config(**GQA, no_rope_layers=[1, 0], use_sliding_window=True, sliding_window=4, attention_bias=True),
        mlp="gated",
    ),
    "nemotron": Case(hf.NemotronConfig(**WIDE, attention_bias=True, norm_eps=1e-3, rope_parameters=PARTIAL)),
    "xlm-roberta": Case(
        hf.XLMRobertaConfig(**SMALL, intermediate_size=32, layer_norm_eps=1e-4),
        BERT,
        "attention",
        ("self.query", "self.key", "self.value", "output.dense"),
        layout="sum",
    ),
}

FAMILY_BLOCKS: dict[str, Case] = {
    "exaone4": Case(hf.Exaone4Config(**WIDE, sliding_window=4, layer_types=SLIDING), layout="after", mlp="gated"),
    "exaone4-full": Case(
        hf.Exaone4Config(**GQA, sliding_window=None, layer_types=["full_attention"] * 2), layout="after", mlp="gated"
    ),
    "phi": Case(hf.PhiConfig(**GQA, rope_parameters=PARTIAL, layer_norm_eps=1e-4), layout="parallel"),
    "phi-normed": Case(hf.PhiConfig(**GQA, qk_layernorm=True, hidden_act="relu"), layout="parallel"),
    "persimmon": Case(hf.PersimmonConfig(**BARE, rope_parameters=PARTIAL | {"partial_rotary_factor": 0.67})),
    "persimmon-plain": Case(
        hf.PersimmonConfig(
            **BARE, qk_layernorm=False, hidden_act="gelu", rope_parameters=PARTIAL | {"partial_rotary_factor": 0.34}
        )
    ),
    "phi3": Case(hf.Phi3Config(**GQA, sliding_window=4, rope_parameters=PARTIAL), mlp="fused"),
    "glm": Case(hf.GlmConfig(**WIDE, attention_bias=True, rope_parameters=PARTIAL), mlp="fused"),
    "glm4": Case(hf.Glm4Config(**WIDE, attention_bias=False, rms_norm_eps=1e-3), layout="both", mlp="fused"),
    "stablelm": Case(hf.StableLmConfig(**GQA, use_qkv_bias=True, rope_parameters=PARTIAL), mlp="gated"),
    "stablelm-parallel": Case(
        hf.StableLmConfig(**GQA, use_parallel_residual=True, qk_layernorm=True, rope_parameters=PARTIAL),
        layout="parallel",
        mlp="gated",
    ),
    "nemotron-plain": Case(hf.NemotronConfig(**GQA, head_dim=4, mlp_bias=True)),
    "cohere": Case(
        hf.CohereConfig(**GQA, attention_bias=True, layer_norm_eps=1e-3, rope_parameters=rope("linear")),
        layout="parallel",
        mlp="gated",
    ),
    "cohere-normed": Case(hf.CohereConfig(**GQA, use_qk_norm=True), layout="parallel", mlp="gated"),
    "cohere2": Case(hf.Cohere2Config(**WIDE, sliding_window=4, layer_types=SLIDING), layout="parallel", mlp="gated"),
    "helium": Case(hf.HeliumConfig(**GQA, head_dim=4, attention_bias=True, rms_norm_eps=1e-3), mlp="gated"),
    "ernie4_5": Case(hf.Ernie4_5Config(**WIDE, use_bias=True), mlp="gated"),
    "gptj": Case(hf.GPTJConfig(**GPT, rotary_dim=4, layer_norm_epsilon=1e-4), "h", layout="parallel"),
    "gptj-whole": Case(
        hf.GPTJConfig(**GPT, rotary_dim=6, n_inner=20, activation_function="relu"), "h", layout="parallel"
    ),
    "codegen": Case(hf.CodeGenConfig(**GPT, n_ctx=64, rotary_dim=4, layer_norm_epsilon=1e-4), "h", layout="parallel"),
    "gpt_neo": Case(
        hf.GPTNeoConfig(
            hidden_size=24,
            num_layers=2,
            num_heads=4,
            vocab_size=50,
            max_position_embeddings=64,
            attention_types=[[["global", "local"], 1]],
            window_size=4,
        ),
        "h",
    ),
    "gpt_bigcode": Case(hf.GPTBigCodeConfig(**GPT, layer_norm_epsilon=1e-4), "h"),
    "gpt_bigcode-heads": Case(hf.GPTBigCodeConfig(**GPT, multi_query=False, scale_attn_weights=False), "h"),
    "falcon": Case(
        hf.FalconConfig(**BARE, ffn_hidden_size=32, rope_parameters=dict(rope_type="default", **THETA)),
        "h",
        layout="parallel",
    ),
    "falcon-groups": Case(
        hf.FalconConfig(**BARE, ffn_hidden_size=32, new_decoder_architecture=True, num_kv_heads=2, bias=True),
        "h",
        layout="parallel",
    ),
    "falcon-alibi": Case(
        hf.FalconConfig(
            **SMALL | {"num_attention_heads": 6},
            ffn_hidden_size=32,
            alibi=True,
            parallel_attn=False,
            multi_query=False,
            bias=True,
        ),
        "h",
    ),
    "bloom": Case(hf.BloomConfig(hidden_size=24, n_layer=2, n_head=4, vocab_size=50, layer_norm_epsilon=1e-4), "h"),
    "mpt": Case(hf.MptConfig(d_model=24, n_heads=6, n_layers=2, vocab_size=50, max_seq_len=64), "blocks"),
    "xlm-roberta-xl": Case(hf.XLMRobertaXLConfig(**BARE, layer_norm_eps=1e-3), BERT),
    "roberta-prelayernorm": Case(hf.RobertaPreLayerNormConfig(**BARE, layer_norm_eps=1e-3), BERT),
    "electra": Case(hf.ElectraConfig(**BARE, embedding_size=16, layer_norm_eps=1e-3), BERT, layout="sum"),
    "megatron-bert": Case(hf.MegatronBertConfig(**BARE, layer_norm_eps=1e-3), BERT),
    "distilbert": Case(
        hf.DistilBertConfig(dim=24, hidden_dim=32, n_layers=2, n_heads=4, vocab_size=50, max_position_embeddings=64),
        "transformer.layer",
        layout="sum",
    ),
    "albert": Case(
        hf.AlbertConfig(**BARE, embedding_size=16, num_hidden_groups=2, layer_norm_eps=1e-3),
        "encoder.albert_layer_groups",
        layout="sum",
    ),
    "modernbert": Case(
        hf.ModernBertConfig(
            **BARE, pad_token_id=0, layer_types=SLIDING[::-1], local_attention=6, attention_bias=True, norm_bias=True
        ),
        mlp="fused",
    ),
    "modernbert-decoder": Case(
        hf.ModernBertDecoderConfig(**BARE, pad_token_id=0, layer_types=SLIDING, local_attention=8, mlp_bias=True),
        mlp="fused",
    ),
}

LATENT: dict[str, Any] = {"kv_lora_rank": 10, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
EXPERTS: dict[str, Any] = {"n_routed_experts": 4, "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1}
EXPERTS |= {"num_experts_per_tok": 2, "first_k_dense_replace": 1}
MANY = GQA | {"num_attention_heads": 4, "num_key_value_heads": 4}

# What a `Block` describes only the heads of.
HEADS_ONLY: dict[str, Case] = {
    "deberta-v2": Case(hf.DebertaV2Config(**BARE), BERT, "attention"),
    "deberta": Case(hf.DebertaConfig(**BARE), BERT, "attention"),
    "deepseek_v2": Case(hf.DeepseekV2Config(**MANY, **LATENT, **EXPERTS, q_lora_rank=None)),
    "deepseek_v3": Case(hf.DeepseekV3Config(**MANY, **LATENT, **EXPERTS, q_lora_rank=12)),
    "glm4_moe_lite": Case(hf.Glm4MoeLiteConfig(**MANY, **LATENT | {"v_head_dim": 12}, **EXPERTS, q_lora_rank=12)),
    "minicpm3": Case(hf.MiniCPM3Config(**MANY, **LATENT, q_lora_rank=12)),
    "youtu": Case(hf.YoutuConfig(**MANY, **LATENT, q_lora_rank=12)),
}
