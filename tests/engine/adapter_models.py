"""Tiny random models of every family, and a record of what the library's own forward pass does with a text."""

import inspect
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import transformers as hf
from adapter_case import GQA, PIXELS, SLIDING, SMALL, THETA, Case, rope
from family_cases import FAMILY_BLOCKS, FAMILY_CASES
from torch import Tensor, nn

from engine.jacobians.tracing import sharpen
from engine.models.adapters import ADAPTERS, Block, Parts

T = 9
LLAMA3 = rope("llama3", low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
CASES: dict[str, Case] = {
    "gpt2": Case(
        hf.GPT2Config(
            n_embd=24, n_layer=2, n_head=4, vocab_size=50, n_positions=64, scale_attn_by_inverse_layer_idx=True
        ),
        "h",
        "attn",
        ("c_attn", "c_proj"),
    ),
    "gpt_neox": Case(
        hf.GPTNeoXConfig(
            **SMALL,
            intermediate_size=32,
            rope_parameters=dict(rope_type="default", partial_rotary_factor=0.67, **THETA),
        ),
        attention="attention",
        biases=("query_key_value", "dense"),
    ),
    "llama": Case(
        hf.LlamaConfig(**GQA, attention_bias=True, head_dim=10, rope_parameters=dict(rope_type="default", **THETA))
    ),
    "llama-llama3": Case(hf.LlamaConfig(**GQA, rope_parameters=LLAMA3)),
    "llama-linear": Case(hf.LlamaConfig(**GQA, rope_parameters=rope("linear"))),
    "llama-yarn": Case(
        hf.LlamaConfig(**GQA, head_dim=16, rope_parameters=rope("yarn", original_max_position_embeddings=16))
    ),
    "mistral": Case(hf.MistralConfig(**GQA, head_dim=6, sliding_window=4)),
    "qwen2": Case(hf.Qwen2Config(**GQA, use_sliding_window=True, sliding_window=4, max_window_layers=1)),
    "qwen3": Case(hf.Qwen3Config(**GQA, head_dim=10, attention_bias=True)),
    "olmo": Case(hf.OlmoConfig(**GQA)),
    "olmo2": Case(hf.Olmo2Config(**GQA, attention_bias=True)),
    "olmo3": Case(
        hf.Olmo3Config(
            **GQA,
            layer_types=SLIDING,
            sliding_window=4,
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
                "full_attention": rope("yarn", original_max_position_embeddings=16),
            },
        )
    ),
    "gemma2": Case(
        hf.Gemma2Config(
            **GQA,
            head_dim=10,
            query_pre_attn_scalar=7,
            attn_logit_softcapping=2.0,
            sliding_window=4,
            attention_bias=True,
        )
    ),
    "gemma3_text": Case(
        hf.Gemma3TextConfig(
            **GQA,
            head_dim=10,
            query_pre_attn_scalar=7,
            layer_types=SLIDING,
            sliding_window=4,
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
                "full_attention": rope("linear"),
            },
        )
    ),
    "gemma4_text": Case(
        hf.Gemma4TextConfig(
            **GQA,
            rms_norm_eps=1e-3,
            head_dim=8,
            global_head_dim=8,
            layer_types=SLIDING,
            sliding_window=4,
            hidden_size_per_layer_input=0,
        )
    ),
    "gemma4_text-bidirectional": Case(
        hf.Gemma4TextConfig(
            **GQA,
            rms_norm_eps=1e-3,
            head_dim=8,
            global_head_dim=8,
            use_bidirectional_attention="all",
            sliding_window=4,
            hidden_size_per_layer_input=0,
        )
    ),
    "gemma2-bidirectional": Case(
        hf.Gemma2Config(**GQA, head_dim=8, sliding_window=4, use_bidirectional_attention=True)
    ),
    "gemma3_text-bidirectional": Case(
        hf.Gemma3TextConfig(**GQA, head_dim=8, sliding_window=4, layer_types=SLIDING, use_bidirectional_attention=True)
    ),
    "opt": Case(
        hf.OPTConfig(**SMALL, ffn_dim=32, word_embed_proj_dim=24, dropout=0.0),
        biases=("q_proj", "k_proj", "v_proj", "out_proj"),
        scales_query=True,
    ),
    "opt-post-norm": Case(
        hf.OPTConfig(**SMALL, ffn_dim=32, word_embed_proj_dim=16, do_layer_norm_before=False, dropout=0.0),
        biases=("q_proj", "k_proj", "v_proj", "out_proj"),
        scales_query=True,
    ),
    "starcoder2": Case(hf.Starcoder2Config(**GQA, norm_epsilon=1e-4, sliding_window=4)),
    "bert": Case(
        hf.BertConfig(**SMALL, intermediate_size=32, layer_norm_eps=1e-4),
        "encoder.layer",
        "attention",
        ("self.query", "self.key", "self.value", "output.dense"),
    ),
    "bert-decoder": Case(
        hf.BertConfig(**SMALL, intermediate_size=32, layer_norm_eps=1e-4, is_decoder=True),
        "encoder.layer",
        "attention",
        ("self.query", "self.key", "self.value", "output.dense"),
    ),
    "roberta": Case(
        hf.RobertaConfig(**SMALL, intermediate_size=32, layer_norm_eps=1e-4),
        "encoder.layer",
        "attention",
        ("self.query", "self.key", "self.value", "output.dense"),
    ),
    "vit": Case(
        hf.ViTConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=32,
            layer_norm_eps=1e-4,
            **PIXELS,
        ),
        attention="attention",
    ),
}

CASES |= FAMILY_CASES


# What only the rest of a block can tell: other residual layouts, biases, activations, windows.
WIDE = GQA | {"head_dim": 8, "sliding_window": 4}
BARE = SMALL | {"intermediate_size": 32}
BLOCKS: dict[str, Case] = CASES | {
    "gpt2-unscaled": Case(
        hf.GPT2Config(
            n_embd=24,
            n_layer=2,
            n_head=4,
            n_inner=20,
            vocab_size=50,
            n_positions=64,
            scale_attn_weights=False,
            layer_norm_epsilon=1e-3,
            activation_function="quick_gelu",
        ),
        "h",
    ),
    "gpt_neox-sequential": Case(
        hf.GPTNeoXConfig(**BARE, use_parallel_residual=False, attention_bias=False, hidden_act="gelu_new")
    ),
    "llama-biased": Case(hf.LlamaConfig(**GQA, attention_bias=True, mlp_bias=True, hidden_act="relu")),
    "mistral-full": Case(hf.MistralConfig(**GQA, sliding_window=None, rms_norm_eps=1e-3)),
    "qwen3-sliding": Case(hf.Qwen3Config(**WIDE, use_sliding_window=True, layer_types=SLIDING)),
    "olmo-biased": Case(hf.OlmoConfig(**GQA, attention_bias=True)),
    "gemma2-uncapped": Case(hf.Gemma2Config(**WIDE, attn_logit_softcapping=None, hidden_activation="gelu")),
    "gemma4_text-both-ways": Case(
        hf.Gemma4TextConfig(
            **WIDE,
            rms_norm_eps=1e-3,
            global_head_dim=8,
            attention_bias=True,
            attention_k_eq_v=True,
            use_bidirectional_attention="all",
            layer_types=SLIDING,
            hidden_size_per_layer_input=0,
        )
    ),
    "gemma4_text-two-widths": Case(
        hf.Gemma4TextConfig(
            **GQA,
            rms_norm_eps=1e-3,
            head_dim=8,
            global_head_dim=12,
            num_global_key_value_heads=3,
            attention_k_eq_v=True,
            layer_types=SLIDING,
            sliding_window=4,
            hidden_size_per_layer_input=0,
        )
    ),
    "opt-bare": Case(
        hf.OPTConfig(
            **SMALL,
            ffn_dim=20,
            word_embed_proj_dim=24,
            enable_bias=False,
            layer_norm_elementwise_affine=False,
            activation_function="gelu",
        )
    ),
    "opt-post-norm-bare": Case(
        hf.OPTConfig(
            **SMALL, ffn_dim=20, word_embed_proj_dim=24, do_layer_norm_before=False, layer_norm_elementwise_affine=False
        )
    ),
    "starcoder2-unbiased": Case(hf.Starcoder2Config(**GQA, use_bias=False, sliding_window=None, norm_epsilon=1e-3)),
    "roberta-relu": Case(hf.RobertaConfig(**BARE, hidden_act="relu", layer_norm_eps=1e-3), "encoder.layer"),
    "vit-unbiased": Case(
        hf.ViTConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=20,
            layer_norm_eps=1e-3,
            qkv_bias=False,
            **PIXELS,
        )
    ),
}
BLOCKS |= FAMILY_BLOCKS


@dataclass
class Record:
    """What one layer of the library's model did with one text; batch of one removed."""

    x: Tensor  # (T, d): the residual stream that the block was given
    into: Tensor  # (T, d): what reached the projections
    query: Tensor  # (H, T, d_h): after q-norm and rotation
    key: Tensor  # (H_kv, T, d_h)
    value: Tensor  # (H_kv, T, d_h)
    scale: float
    mask: Tensor | float  # (T, T), additive
    weights: Tensor  # (H, T, T)
    out: Tensor  # (T, d): the output projection's


@dataclass
class Run:
    """A model with random weights, and what each of its layers did."""

    model: nn.Module
    records: list[Record]


def randomise(model: nn.Module) -> None:
    """Give every parameter weight: matrices that make scores of order one, biases and gains that matter."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim > 1:
                parameter.copy_(noise * 1.5 / model.config.hidden_size**0.5)
            else:
                parameter.copy_(0.4 * noise + (1 if name.endswith("weight") else 0))
        for name, buffer in model.named_buffers():
            if name.endswith("layer_scalar"):  # Gemma 4: stored, yet no parameter
                buffer.fill_(1.3)


@cache
def model_of(name: str) -> nn.Module:
    """The case's model, eager and in fp64, with random weights."""
    torch.manual_seed(0)
    config = deepcopy(BLOCKS[name].config)  # the library writes to a config that another is made from
    model = hf.AutoModel.from_config(config, attn_implementation="eager").double().eval().requires_grad_(False)
    ADAPTERS[config.model_type].mend(model)
    if "decoder" in dict(model.named_children()):
        model = model.decoder  # OPTModel only wraps it
    randomise(model)
    sharpen(model)
    return model


def inputs_of(name: str) -> dict[str, Tensor]:
    """A random text, or picture, for the case's model."""
    generator = torch.Generator().manual_seed(3)
    if BLOCKS[name].config.model_type == "vit":
        return {"pixel_values": torch.randn((1, 3, 8, 12), generator=generator, dtype=torch.float64)}
    return {"input_ids": torch.randint(2, 50, (1, T), generator=generator)}


@cache
def run(name: str) -> Run:
    """Run the case's model once, with the library's attention function and the linears around it tapped."""
    case, model = CASES[name], model_of(name)
    module = sys.modules[type(model).__module__]
    original = module.eager_attention_forward
    signature = inspect.signature(original)
    calls: list[dict[str, Any]] = []
    seen: dict[tuple[str, int], Tensor] = {}

    def recording(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        output, weights = original(*args, **kwargs)
        calls.append(dict(signature.bind(*args, **kwargs).arguments) | {"weights": weights})
        return output, weights

    def first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        return args[0] if args else kwargs["hidden_states"]

    handles = []
    for layer in range(case.config.num_hidden_layers):
        block = model.get_submodule(f"{case.layers}.{layer}")
        attention = block.get_submodule(case.attention)
        q, o = attention.get_submodule(case.biases[0]), attention.get_submodule(case.biases[-1])

        def keep(key: tuple[str, int]) -> Callable[..., None]:
            return lambda _, args, kwargs: seen.__setitem__(key, first(args, kwargs)[0].clone())

        handles += [
            block.register_forward_pre_hook(keep(("x", layer)), with_kwargs=True),
            q.register_forward_pre_hook(lambda _, args, layer=layer: seen.__setitem__(("into", layer), args[0][0])),
            o.register_forward_hook(lambda _, __, out, layer=layer: seen.__setitem__(("out", layer), out[0])),
        ]
    module.eager_attention_forward = recording
    try:
        with torch.no_grad():
            model(**inputs_of(name))
    finally:
        module.eager_attention_forward = original
        for handle in handles:
            handle.remove()
    records = []
    for layer, call in enumerate(calls):
        mask = call["attention_mask"]
        records.append(
            Record(
                x=seen["x", layer],
                into=seen["into", layer],
                query=call["query"][0],
                key=call["key"][0],
                value=call["value"][0],
                scale=call.get("scaling", 1.0),
                mask=0.0 if mask is None else mask[0, 0].double(),
                weights=call["weights"][0],
                out=seen["out", layer],
            )
        )
    return Run(model, records)


def attention(name: str, layer: int) -> nn.Module:
    """The library's attention module."""
    case = CASES[name]
    return run(name).model.get_submodule(f"{case.layers}.{layer}.{case.attention}")


def block_of(name: str, layer: int, parts: Parts = "heads") -> Block:
    """The adapter's account of the same layer, from the model's own state dict."""
    config, state = BLOCKS[name].config, model_of(name).state_dict()
    adapter = ADAPTERS[config.model_type]
    found = adapter.locate(adapter.tensor_names(config, layer, parts), state.keys())
    return adapter.block(config, layer, lambda tensor: state[found[tensor]], parts)
