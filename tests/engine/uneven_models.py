"""Tiny random models whose layers differ in their heads, and what the library's attention does in each of them."""

import sys
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import transformers as hf
from adapter_models import GQA, SLIDING, T, randomise, rope
from torch import Tensor, nn

from engine.models.adapters import Adapter, Block, adapter_for

FOUR = GQA | {"num_hidden_layers": 4}
WIDTHS = {
    "rms_norm_eps": 1e-3,
    "head_dim": 8,
    "global_head_dim": 12,
    "sliding_window": 4,
    "vocab_size_per_layer_input": 50,
    "layer_types": SLIDING * 2,
}
LINEAR = {
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 6,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
MOE = {"moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 6, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 4}
LESS = {name: value for name, value in GQA.items() if name != "intermediate_size"}
UNEVEN: dict[str, hf.PreTrainedConfig] = {
    # As Gemma 4 E4B: two widths, keys and values shared by the last layers, an input of each token to each layer.
    "gemma4_text-shared": hf.Gemma4TextConfig(
        **FOUR, **WIDTHS, hidden_size_per_layer_input=6, num_kv_shared_layers=2, use_double_wide_mlp=True
    ),
    # As Gemma 4 31B: two widths and numbers of key/value heads, and values that are the keys.
    "gemma4_text-wide": hf.Gemma4TextConfig(
        **FOUR, **WIDTHS, hidden_size_per_layer_input=0, num_global_key_value_heads=3, attention_k_eq_v=True
    ),
    "gemma3n_text": hf.Gemma3nTextConfig(
        **FOUR | {"intermediate_size": [32] * 4},
        head_dim=8,
        sliding_window=4,
        vocab_size_per_layer_input=50,
        layer_types=SLIDING * 2,
        hidden_size_per_layer_input=6,
        num_kv_shared_layers=2,
        altup_num_inputs=3,
        laurel_rank=4,
        activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0],
    ),
    "qwen3_next": hf.Qwen3NextConfig(**GQA, **LINEAR, **MOE, **EXPERTS, attention_bias=True),
    "qwen3_5_text": hf.Qwen3_5TextConfig(**GQA, **LINEAR),
    "qwen3_5_moe_text": hf.Qwen3_5MoeTextConfig(**LESS, **LINEAR, **MOE, **EXPERTS),
    "gpt_oss": hf.GptOssConfig(
        **GQA,
        head_dim=10,
        sliding_window=4,
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters=rope("yarn", original_max_position_embeddings=16),
    ),
    "jamba": hf.JambaConfig(
        **GQA,
        num_experts=2,
        num_experts_per_tok=1,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_d_state=4,
        mamba_dt_rank=3,
        use_mamba_kernels=False,
    ),
    "bamba": hf.BambaConfig(**GQA, **MAMBA, attn_layer_indices=[1], attention_bias=True),
    "falcon_h1": hf.FalconH1Config(
        **GQA, **MAMBA, mamba_d_ssm=48, key_multiplier=0.7, attention_in_multiplier=1.3, attention_out_multiplier=0.6
    ),
    "granitemoehybrid": hf.GraniteMoeHybridConfig(
        **GQA,
        **MAMBA,
        layer_types=["linear_attention", "full_attention"],
        position_embedding_type="rope",
        attention_multiplier=0.4,
        num_local_experts=2,
        num_experts_per_tok=1,
        shared_intermediate_size=16,
        attention_bias=True,
    ),
    "nemotron_h": hf.NemotronHConfig(
        **LESS,
        head_dim=10,
        intermediate_size=20,
        layers_block_type=["linear_attention", "full_attention", "mlp", "full_attention"],
        mamba_num_heads=4,
        mamba_head_dim=6,
        ssm_state_size=8,
        n_groups=1,
        chunk_size=4,
    ),
    "lfm2": hf.Lfm2Config(**GQA, layer_types=["conv", "full_attention"]),
    "lfm2_moe": hf.Lfm2MoeConfig(
        **GQA, **EXPERTS, layer_types=["conv", "full_attention"], moe_intermediate_size=8, num_dense_layers=1
    ),
    "olmo_hybrid": hf.OlmoHybridConfig(
        **GQA,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=6,
        linear_value_head_dim=8,
    ),
    "minimax": hf.MiniMaxConfig(
        **GQA,
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        num_local_experts=2,
        num_experts_per_tok=1,
        block_size=4,
    ),
}


@dataclass
class Seen:
    """What the attention of one layer was given and made of it, batch of one removed."""

    into: Tensor  # (T, d): what its projections read
    query: Tensor  # (H, T, d_h)
    key: Tensor  # (H_kv, T, d_h)
    value: Tensor
    weights: Tensor  # (H, T, T)
    module: nn.Module
    mixed: Tensor = field(default_factory=lambda: torch.empty(0))  # (T, H·d_h): what the output projection reads
    out: Tensor = field(default_factory=lambda: torch.empty(0))  # (T, d)


@dataclass
class Layers:
    """A model, and what its layers with softmax heads did with one text; `entered` is each block's input."""

    model: nn.Module
    seen: dict[int, Seen] = field(default_factory=dict)
    entered: dict[int, Tensor] = field(default_factory=dict)


def inputs() -> dict[str, Tensor]:
    return {"input_ids": torch.randint(2, 50, (1, T), generator=torch.Generator().manual_seed(3))}


def adapter_of(name: str) -> Adapter:
    adapter = adapter_for(UNEVEN[name])
    assert adapter is not None
    return adapter


@cache
def uneven_model(name: str) -> nn.Module:
    """The model of a case, eager and in fp64, with random weights."""
    torch.manual_seed(0)
    config = deepcopy(UNEVEN[name])
    model: nn.Module = hf.AutoModel.from_config(config, attn_implementation="eager").double().eval()
    model.requires_grad_(False)
    model.set_experts_implementation("eager")  # the fused one knows no float64
    randomise(model)
    return model


@cache
def observed(name: str) -> Layers:
    """Run the model of a case once, with the library's attention function tapped."""
    model = uneven_model(name)
    file = sys.modules[type(model).__module__]
    original, layers = file.eager_attention_forward, Layers(model)
    into: dict[int, Tensor] = {}
    ends: dict[int, list[Tensor]] = {}

    def recording(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        output, weights = original(module, query, key, value, *args, **kwargs)
        at = module.layer_idx
        layers.seen[at] = Seen(into[at], query[0], key[0], value[0], weights[0], module)
        return output, weights

    def first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        value = args[0] if args else kwargs["hidden_states"]
        return value[0].clone()  # the only sample, or with AltUp the first stream

    handles = []
    for layer, block in enumerate(model.layers):
        attention = next((module for module in block.modules() if hasattr(module, "q_proj")), None)
        handles.append(
            block.register_forward_pre_hook(
                lambda _, args, kwargs, at=layer: layers.entered.__setitem__(at, first(args, kwargs)), with_kwargs=True
            )
        )
        if attention is not None:
            end = attention.out_proj if hasattr(attention, "out_proj") else attention.o_proj
            handles.append(
                end.register_forward_hook(lambda _, args, out, at=layer: ends.__setitem__(at, [args[0][0], out[0]]))
            )
            handles.append(
                attention.register_forward_pre_hook(
                    lambda _, args, kwargs, at=layer: into.__setitem__(at, first(args, kwargs)), with_kwargs=True
                )
            )
    file.eager_attention_forward = recording
    try:
        with torch.no_grad():
            model(**inputs())
    finally:
        file.eager_attention_forward = original
        for handle in handles:
            handle.remove()
    for at, end in ends.items():
        if at in layers.seen:
            layers.seen[at].mixed, layers.seen[at].out = end
    return layers


@cache
def uneven_block(name: str, layer: int) -> Block:
    """The adapter's account of the heads of a layer, from the model's own state dict."""
    config, state, adapter = UNEVEN[name], uneven_model(name).state_dict(), adapter_of(name)
    located = adapter.locate(adapter.tensor_names(config, layer), state.keys())
    return adapter.block(config, layer, lambda tensor: state[located[tensor]])
