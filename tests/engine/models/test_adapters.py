"""Every adapter against the library's own forward pass, on tiny random models.

What the model does is recorded around the library's attention function; what the adapter says is put together here by
the formulas of methods §2 and §6, and the two must agree.
"""

from collections.abc import Callable

import pytest
import torch
from adapter_models import CASES, attention, block_of, run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.models.adapters import Heads, Norm, Rotary

torch.set_num_threads(1)


def standardise(x: Tensor, kind: str, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True) if kind == "layernorm" else x
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()


def apply(norm: Norm, x: Tensor) -> Tensor:
    y = standardise(x, norm.kind, norm.eps)
    y = y if norm.gain is None else y * norm.gain
    return y if norm.bias is None else y + norm.bias


def biases(name: str, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The biases of q, k, v by head, and of o, straight from the module: (H, d_h), (H_kv, d_h), (H_kv, d_h), (d,)."""
    case = CASES[name]
    heads = block_of(name, layer).heads
    parameters = dict(attention(name, layer).named_parameters())
    flat = [parameters.get(f"{path}.bias") for path in case.biases]
    if len(flat) == 2:  # fused
        fused, o = flat
        assert fused is not None
        if case.config.model_type == "gpt2":
            q, k, v = fused.view(3, *heads.w_q.shape[:2])
        else:
            q, k, v = fused.view(len(heads.w_q), 3, -1).transpose(0, 1)
    else:
        shapes = [heads.w_q.shape[:2], heads.w_k.shape[:2], heads.w_v.shape[:2]]
        q, k, v = (
            torch.zeros(shape) if bias is None else bias.view(shape)
            for shape, bias in zip(shapes, flat[:3], strict=True)
        )
        o = flat[3]
    return q, k, v, torch.zeros(case.config.hidden_size) if o is None else o


def raw(w: Tensor, x: Tensor, bias: Tensor) -> Tensor:
    """(heads, T, d_h): y = W x + b, head by head."""
    return torch.stack([x @ w_h.T + b_h for w_h, b_h in zip(w, bias, strict=True)])


def qk_normed(name: str, layer: int, which: str, y: Tensor) -> Tensor:
    """Apply the module's q- or k-norm, of one head (Qwen3, Gemma) or of all together (OLMo), to (heads, T, d_h)."""
    case = CASES[name]
    norm = getattr(attention(name, layer), f"{which}_norm")
    gain = norm.weight + 1 if case.config.model_type == "gemma3_text" else norm.weight
    eps = case.config.rms_norm_eps
    if gain.shape[0] == y.shape[-1]:
        return standardise(y, "rmsnorm", eps) * gain
    together = y.transpose(0, 1).flatten(1)
    return (standardise(together, "rmsnorm", eps) * gain).view(y.shape[1], *y.shape[::2]).transpose(0, 1)


def kv_of(heads: Heads, head: int) -> int:
    """The key/value head that a query head reads."""
    return head // (len(heads.w_q) // len(heads.w_k))


def scores(name: str, layer: int, kv_head: Callable[[int], int]) -> Tensor:
    """(H, T, T): attention weights from the adapter's matrices and R_{j−i} alone."""
    rec, block = run(name).records[layer], block_of(name, layer)
    bias_q, bias_k, _, _ = biases(name, layer)
    q, k = raw(block.heads.w_q, rec.into, bias_q), raw(block.heads.w_k, rec.into, bias_k)
    if block.qk_norm:
        q, k = qk_normed(name, layer, "q", q), qk_normed(name, layer, "k", k)
    k = k[[kv_head(head) for head in range(len(q))]]
    if block.rotary is None:
        s = q @ k.mT
    else:
        length = q.shape[1]
        turns = torch.stack([torch.stack([block.rotary.rotation(j - i) for j in range(length)]) for i in range(length)])
        s = torch.einsum("hia,ijab,hjb->hij", q, turns, k) * block.rotary.attention_scaling**2
    s = s * (q.shape[-1] ** -0.5 if CASES[name].scales_query else rec.scale)
    if block.softcap is not None:
        s = block.softcap * torch.tanh(s / block.softcap)
    return (s + rec.mask).softmax(-1)


@pytest.mark.parametrize("name", CASES)
def test_biases_of_every_head(name: str) -> None:
    """Read from the module apart: a bias on keys alone may not show in any output."""
    for layer in range(2):
        heads = block_of(name, layer, "all").heads
        seen = (heads.b_q, heads.b_k, heads.b_v, heads.b_o)
        for bias, expected in zip(seen, biases(name, layer), strict=True):
            assert torch.equal(torch.zeros_like(expected) if bias is None else bias, expected)
            assert bias is None or (bias.abs().max() > 0.1)


GROUPED = [name for name, case in CASES.items() if case.config.to_dict().get("num_key_value_heads") == 2]
LAYERS = [(name, layer) for name in CASES for layer in range(2)]
by_layer = pytest.mark.parametrize(("name", "layer"), LAYERS, ids=[f"{name}-{layer}" for name, layer in LAYERS])


@by_layer
def test_what_reaches_attention_is_the_blocks_first_norm(name: str, layer: int) -> None:
    rec, norm = run(name).records[layer], block_of(name, layer).attn_norm
    if norm is None:
        torch.testing.assert_close(rec.into, rec.x, rtol=0, atol=0)
    else:
        torch.testing.assert_close(apply(norm, rec.x), rec.into, rtol=3e-6, atol=3e-6)
        assert (rec.into - rec.x).abs().max() > 0.1


@by_layer
def test_values_of_every_head(name: str, layer: int) -> None:
    rec, heads = run(name).records[layer], block_of(name, layer).heads
    value = raw(heads.w_v, rec.into, biases(name, layer)[2])
    if CASES[name].config.model_type == "gemma4_text":
        value = standardise(value, "rmsnorm", CASES[name].config.rms_norm_eps)
    torch.testing.assert_close(value, rec.value, rtol=1e-6, atol=1e-6)


@by_layer
def test_queries_and_keys_of_every_head(name: str, layer: int) -> None:
    """Position by position, the rotation being R_{−i}ᵀ: the absolute form of the relative one below."""
    rec, block = run(name).records[layer], block_of(name, layer)
    for which, w, bias, seen in (
        ("q", block.heads.w_q, biases(name, layer)[0], rec.query),
        ("k", block.heads.w_k, biases(name, layer)[1], rec.key),
    ):
        y = raw(w, rec.into, bias)
        if block.qk_norm:
            y = qk_normed(name, layer, which, y)
        if block.rotary is not None:
            turned = [y[:, i] @ block.rotary.rotation(i).T for i in range(y.shape[1])]
            y = torch.stack(turned, dim=1) * block.rotary.attention_scaling
        if which == "q" and CASES[name].scales_query:
            y = y * y.shape[-1] ** -0.5
        torch.testing.assert_close(y, seen, rtol=1e-5, atol=1e-5)


@by_layer
def test_attention_weights_of_every_head(name: str, layer: int) -> None:
    """W_Q, W_K, the sign of Δ, the grouping of heads, scale and soft-cap, all at once."""
    seen, heads = run(name).records[layer].weights, block_of(name, layer).heads
    torch.testing.assert_close(
        scores(name, layer, lambda head: kv_of(heads, head)), seen.double(), rtol=1e-5, atol=1e-5
    )
    assert seen.max(-1).values.mean() < 0.98  # neither saturated nor flat, else the comparison would prove little
    assert (seen - seen.mean(-1, keepdim=True)).abs().max() > 0.2


@pytest.mark.parametrize("name", GROUPED)
def test_another_grouping_of_heads_would_be_seen(name: str) -> None:
    heads, seen = block_of(name, 0).heads, run(name).records[0].weights
    assert len(heads.w_k) == 2
    assert len(heads.w_q) == 6
    assert [kv_of(heads, head) for head in range(6)] == [0, 0, 0, 1, 1, 1]
    wrong = scores(name, 0, lambda head: head % len(heads.w_k))
    assert (wrong - seen).abs().amax((1, 2))[[1, 4]].min() > 0.02  # the heads that h % 2 would move


@by_layer
def test_output_is_the_sum_over_heads(name: str, layer: int) -> None:
    rec, heads = run(name).records[layer], block_of(name, layer).heads
    out = biases(name, layer)[3] + sum(
        rec.weights[head].double() @ rec.value[kv_of(heads, head)] @ w_o.T for head, w_o in enumerate(heads.w_o)
    )
    torch.testing.assert_close(out, rec.out, rtol=1e-6, atol=1e-6)


# Rotary tables

angles = st.lists(st.floats(0, 3.0), min_size=1, max_size=5)
positions = st.integers(-4096, 4096)


@settings(max_examples=60, deadline=None)
@given(angles, st.integers(0, 4), positions, positions)
def test_rotations_are_an_orthogonal_group(freqs: list[float], rest: int, a: int, b: int) -> None:
    rotary = Rotary(torch.tensor(freqs, dtype=torch.float64), 2 * len(freqs) + rest)
    eye = torch.eye(rotary.d_head, dtype=torch.float64)
    torch.testing.assert_close(rotary.rotation(0), eye, rtol=0, atol=0)
    torch.testing.assert_close(rotary.rotation(a) @ rotary.rotation(b), rotary.rotation(a + b), rtol=0, atol=1e-11)
    torch.testing.assert_close(rotary.rotation(a).T @ rotary.rotation(a), eye, rtol=0, atol=1e-13)
    torch.testing.assert_close(rotary.rotation(a).T, rotary.rotation(-a), rtol=0, atol=1e-13)
    assert torch.equal(rotary.rotation(a)[2 * len(freqs) :], eye[2 * len(freqs) :])


def test_scaling_rules_change_the_table() -> None:
    """Else the scaled cases above would be the plain one under other names."""
    plain = 100.0 ** (-torch.arange(2, dtype=torch.float64) / 2)
    for name in ("llama-llama3", "llama-linear", "gemma3_text", "olmo3"):
        rotary = block_of(name, 1).rotary
        assert rotary is not None
        assert (rotary.inv_freq[:2] / plain - 1).abs().max() > 0.1
    yarn = block_of("llama-yarn", 0).rotary
    assert yarn is not None
    assert yarn.attention_scaling > 1.1
    sliding, full = (block_of("olmo3", layer).rotary for layer in range(2))
    assert sliding is not None
    assert full is not None
    assert not torch.equal(sliding.inv_freq, full.inv_freq)
