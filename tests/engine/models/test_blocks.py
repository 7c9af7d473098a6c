"""Every adapter's whole block against the library's own layer, on random hidden states in fp64.

The forward pass below uses nothing but what a `Block` holds. That each of its fields matters is tested too: any of
them changed must be seen.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cache
from math import pi, sqrt
from typing import Any

import pytest
import torch
from adapter_models import BLOCKS, T, block_of, inputs_of, model_of
from torch import Tensor

from engine.jacobians.tracing import InFloat64
from engine.models.adapters import Block, HeadNorm, Mlp, Norm, Rotary

torch.set_num_threads(1)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda z: z * (1 + torch.erf(z / sqrt(2))) / 2,
    "gelu_new": lambda z: z * (1 + torch.tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))) / 2,
    "gelu_pytorch_tanh": lambda z: z * (1 + torch.tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))) / 2,
    "quick_gelu": lambda z: z / (1 + torch.exp(-1.702 * z)),
    "silu": lambda z: z / (1 + torch.exp(-z)),
    "relu": lambda z: z.clamp(min=0),
    "bloom_gelu": lambda z: z * (1 + torch.tanh(0.79788456 * (z + 0.044715 * z**3))) / 2,
    "relu2": lambda z: z.clamp(min=0).square(),
}


@cache
def seen(name: str) -> list[tuple[Tensor, Tensor]]:
    """Random hidden states (T, d), and what the library's layer makes of them, for every layer."""
    model, handles = model_of(name), []
    given: list[Tensor] = []
    made: list[Tensor] = []
    generator = torch.Generator().manual_seed(5)
    tokens = 7 if "vit" in name else T

    def put(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        x = 1.5 * torch.randn(1, tokens, 24, generator=generator, dtype=torch.float64) + 0.3
        given.append(x[0].clone())
        return ((x, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": x})

    def keep(_: Any, __: Any, out: Any) -> None:
        made.append((out[0] if isinstance(out, tuple) else out)[0].clone())

    for layer in model.get_submodule(BLOCKS[name].layers):
        handles += [layer.register_forward_pre_hook(put, with_kwargs=True), layer.register_forward_hook(keep)]
    with torch.no_grad(), InFloat64():
        model(**inputs_of(name))
    for handle in handles:
        handle.remove()
    return list(zip(given, made, strict=True))


# The block, by its docstrings


def standardise(x: Tensor, norm: Norm | HeadNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True) if norm.kind == "layernorm" else x
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()


def normed(norm: Norm | None, x: Tensor) -> Tensor:
    if norm is None:
        return x
    y = standardise(x, norm)
    y = y if norm.gain is None else y * norm.gain
    return y if norm.bias is None else y + norm.bias


def projected(w: Tensor, bias: Tensor | None, norm: HeadNorm | None, x: Tensor) -> Tensor:
    """(T, heads, d_h)."""
    y = torch.einsum("hed,td->the", w, x)
    y = y if bias is None else y + bias
    if norm is None:
        return y
    out = standardise(y, norm) if norm.over == "head" else standardise(y.flatten(1), norm).view_as(y)
    out = out if norm.gain is None else out * norm.gain.view(-1, y.shape[-1])
    return out if norm.bias is None else out + norm.bias


def rotated(rotary: Rotary | None, y: Tensor) -> Tensor:
    if rotary is None:
        return y
    half = len(rotary.inv_freq)
    angle = (torch.arange(len(y))[:, None] * rotary.inv_freq)[:, None]
    a, b, rest = y[..., :half], y[..., half : 2 * half], y[..., 2 * half :]
    turned = torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin(), rest), -1)
    return turned * rotary.attention_scaling


def attention(block: Block, x: Tensor) -> Tensor:
    heads, rule = block.heads, block.attention
    assert rule is not None
    q = rotated(block.rotary, projected(heads.w_q, heads.b_q, rule.q_norm, x))
    k = rotated(block.rotary, projected(heads.w_k, heads.b_k, rule.k_norm, x))
    v = projected(heads.w_v, heads.b_v, rule.v_norm, x)
    i, j = torch.arange(len(x))[:, None], torch.arange(len(x))
    hidden = (j > i) & rule.causal | ((i - j).abs() >= (rule.window or len(x)))
    y = torch.zeros_like(x) if heads.b_o is None else heads.b_o.expand_as(x)
    for head in range(len(heads.w_q)):
        kv = head // (len(heads.w_q) // len(heads.w_k))
        scores = rule.scale * q[:, head] @ k[:, kv].T
        if rule.slopes is not None:
            scores = scores + rule.slopes[head] * (j - i)
        if rule.softcap is not None:
            scores = rule.softcap * torch.tanh(scores / rule.softcap)
        y = y + scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v[:, kv] @ heads.w_o[head].T
    return y


def mlp(m: Mlp, x: Tensor) -> Tensor:
    def linear(w: Tensor, bias: Tensor | None, z: Tensor) -> Tensor:
        return z @ w.T if bias is None else z @ w.T + bias

    inside, act = linear(m.w_in, m.b_in, x), ACTIVATIONS[m.activation]
    inside = act(inside) if m.w_gate is None else act(linear(m.w_gate, m.b_gate, x)) * inside
    return linear(m.w_out, m.b_out, inside)


def forward(block: Block, x: Tensor) -> Tensor:
    assert block.mlp is not None
    a = block.sublayer_scale * normed(block.attn_post, attention(block, normed(block.attn_norm, x)))
    after = x + a if block.parallel else normed(block.attn_sum, x + a)
    m = normed(block.mlp_post, mlp(block.mlp, normed(block.mlp_norm, x if block.parallel else after)))
    m = block.sublayer_scale * m
    return block.residual_scale * (after + m if block.parallel else normed(block.mlp_sum, after + m))


def off(name: str, layer: int, block: Block) -> float:
    """The largest difference from the library's output, whose entries are of order one."""
    x, y = seen(name)[layer]
    return float((forward(block, x) - y).abs().max() / y.square().mean().sqrt())


LAYERS = [(name, layer) for name in BLOCKS for layer in range(2)]
by_layer = pytest.mark.parametrize(("name", "layer"), LAYERS, ids=[f"{name}-{layer}" for name, layer in LAYERS])


@by_layer
def test_the_block_computes_what_the_librarys_layer_does(name: str, layer: int) -> None:
    assert off(name, layer, block_of(name, layer, "all")) < 1e-12


# Faults: every field changed alone


def faults(at: str, value: Any, annotation: str) -> Iterator[tuple[str, Any]]:
    """Wrong values for one field."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            for where, wrong in faults(f"{at}.{field.name}", getattr(value, field.name), str(field.type)):
                yield where, replace(value, **{field.name: wrong})
    if isinstance(value, Tensor):
        generator = torch.Generator().manual_seed(1)
        yield at, value + 0.01 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
    elif isinstance(value, bool):
        yield at, not value
    elif isinstance(value, float):
        yield at, (2 if at.endswith("eps") else 1.01) * value
    elif at.endswith("window"):
        yield at, 3 if value is None else value + 1
        yield at, 2 if value is None else value - 1
    elif at.endswith("activation"):
        yield at, "relu" if value != "relu" else "gelu"
    elif at.endswith("kind"):
        yield at, "rmsnorm" if value == "layernorm" else "layernorm"
    elif at.endswith("over"):
        yield at, "all" if value == "head" else "head"
    elif at.endswith("softcap"):
        yield at, 3.0
    if "None" in annotation:
        if isinstance(value, Tensor | Norm | HeadNorm | Rotary | float):
            yield f"{at} absent", None
        elif value is None and "Norm" in annotation:
            yield (
                f"{at} present",
                (
                    HeadNorm("rmsnorm", None, 1e-6, "head")
                    if "HeadNorm" in annotation
                    else Norm("rmsnorm", None, None, 1e-6)
                ),
            )


def silent(name: str, block: Block) -> set[str]:
    """Fields that cannot show in the output, or that only repeat another."""
    rule = block.attention
    assert rule is not None
    none = {".qk_norm", ".softcap", ".softcap absent", ".heads.w_gate absent"}
    if rule.q_norm is None and block.rotary is None:
        none |= {".heads.b_k", ".heads.b_k absent"}  # adds the same to all scores of a query
    if name == "distilbert":
        none |= {".attn_sum.eps", ".mlp_sum.eps"}  # 1e-12, whatever the config says
    if block.parallel:
        none |= {".attn_sum present", ".mlp_sum present"}
    return none


@by_layer
def test_a_mistake_in_any_field_would_be_seen(name: str, layer: int) -> None:
    block = block_of(name, layer, "all")
    whole = [(at, wrong) for at, wrong in faults("", block, "") if at not in silent(name, block)]
    assert len(whole) >= 24
    unseen = [at for at, wrong in whole if not off(name, layer, wrong) > 1e-8]
    assert not unseen
