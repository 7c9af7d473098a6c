"""Models whose layers differ in their heads: every layer against the library's own attention (methods §2)."""

import pytest
import torch
import transformers as hf
from torch import Tensor
from uneven_models import UNEVEN, adapter_of, inputs, observed, uneven_block, uneven_model

from engine.models.adapters import Norm
from engine.models.info import HeadShape

torch.set_num_threads(1)

by_name = pytest.mark.parametrize("name", UNEVEN)
GATED = ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")


def apply(norm: Norm, x: Tensor) -> Tensor:
    x = x - x.mean(-1, keepdim=True) if norm.kind == "layernorm" else x
    y = x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    y = y if norm.gain is None else y * norm.gain
    return y if norm.bias is None else y + norm.bias


@by_name
def test_the_shape_of_every_layer_is_what_the_library_computes(name: str) -> None:
    facts, layers = adapter_of(name).facts(UNEVEN[name]), observed(name)
    expected = [
        HeadShape(n_heads=len(s.query), n_kv_heads=len(s.key), d_head=s.query.shape[-1]) if s else None
        for s in map(layers.seen.get, range(UNEVEN[name].num_hidden_layers))
    ]
    shapes = facts["head_shapes"] or [
        HeadShape(**{part: facts[part] for part in ("n_heads", "n_kv_heads", "d_head")})
    ] * len(expected)
    assert list(shapes) == expected
    for part in ("n_heads", "n_kv_heads", "d_head"):
        assert facts[part] == max(getattr(shape, part) for shape in expected if shape)


@by_name
def test_queries_keys_and_values_of_every_head(name: str) -> None:
    """Also that shared keys and values are those of the layer that the adapter names, behind its norm."""
    layers, adapter, config = observed(name), adapter_of(name), UNEVEN[name]
    for layer, seen in layers.seen.items():
        block = uneven_block(name, layer)
        heads, source = block.heads, layer if block.borrowed is None else block.borrowed.layer
        assert source == adapter.kv_source(config, layer)
        made, read = layers.seen[source].module, layers.seen[source].into
        for which, w, x, module, expected in (
            ("q", heads.w_q, seen.into, seen.module, seen.query),
            ("k", heads.w_k, read, made, seen.key),
            ("v", heads.w_v, read, made, seen.value),
        ):
            bias = getattr(getattr(module, f"{which}_proj", None), "bias", None)
            y = torch.einsum("hrd,td->htr", w, x)
            if bias is not None:
                rows = bias.view(len(w), -1, w.shape[1])  # queries, and gates where there are some
                y = y + rows[:, :1]
            if which == "k":
                y = y * getattr(config, "key_multiplier", 1.0)
            norm = getattr(module, f"{which}_norm", getattr(module, f"{which}_layernorm", None))
            if norm is not None and getattr(norm, "weight", y[0, 0]).numel() > y.shape[-1]:
                y = norm(y.transpose(0, 1).flatten(1)).unflatten(1, (len(w), -1)).transpose(0, 1)  # of all heads as one
            elif norm is not None:
                y = norm(y)
            if block.rotary is not None and which != "v":
                turned = [y[:, i] @ block.rotary.rotation(i).T for i in range(y.shape[1])]
                y = torch.stack(turned, dim=1) * block.rotary.attention_scaling
            torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


@by_name
def test_output_is_the_sum_over_heads(name: str) -> None:
    for layer, seen in observed(name).seen.items():
        heads = uneven_block(name, layer).heads
        width = heads.w_o.shape[-1]
        mixed = seen.mixed.unflatten(-1, (len(heads.w_o), width)).transpose(0, 1)
        bias = getattr(seen.module.o_proj, "bias", None) if hasattr(seen.module, "o_proj") else None
        out = torch.einsum("htr,hdr->td", mixed, heads.w_o) + (0 if bias is None else bias)
        torch.testing.assert_close(out, seen.out, rtol=1e-9, atol=1e-9)
        read = seen.weights.double() @ seen.value.repeat_interleave(len(heads.w_q) // len(heads.w_v), 0)
        if name in GATED:
            gate = mixed / read
            assert 0 < gate.min() < gate.max() < 1
        else:
            torch.testing.assert_close(mixed, read, rtol=1e-6, atol=1e-6)


@by_name
def test_what_reaches_attention_is_the_norm_before_it(name: str) -> None:
    layers = observed(name)
    if name == "gemma3n_text":
        pytest.skip("its attention reads a prediction from several streams")
    for layer, seen in layers.seen.items():
        block = uneven_block(name, layer)
        if block.attn_norm is None:
            torch.testing.assert_close(layers.entered[layer], seen.into, rtol=0, atol=0)
            continue
        factor = getattr(UNEVEN[name], "attention_in_multiplier", 1.0)
        torch.testing.assert_close(
            factor * apply(block.attn_norm, layers.entered[layer]), seen.into, rtol=3e-6, atol=3e-6
        )
        if block.borrowed is not None:
            source = block.borrowed.layer
            reached = apply(block.borrowed.norm, layers.entered[source])
            torch.testing.assert_close(reached, layers.seen[source].into, rtol=3e-6, atol=3e-6)


@by_name
def test_the_library_computes_the_same_with_its_cache_and_without(name: str) -> None:
    """Sites and attention are observed without it; in early versions shared keys and values needed it."""
    model, text = uneven_model(name), inputs()["input_ids"]
    with torch.no_grad():
        whole, cached = (model(text, use_cache=cache).last_hidden_state for cache in (False, True))
    torch.testing.assert_close(cached, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["gemma4_text-shared", "gemma3n_text"])
def test_shared_keys_and_values_are_the_same_where_a_text_is_continued(name: str) -> None:
    model, text = uneven_model(name), inputs()["input_ids"]
    with torch.no_grad():
        whole = model(text, use_cache=False).last_hidden_state
        started = model(text[:, :-2], use_cache=True)
        continued = model(text[:, -2:], past_key_values=started.past_key_values, use_cache=True).last_hidden_state
    torch.testing.assert_close(continued, whole[:, -2:], rtol=1e-5, atol=1e-5)


def test_the_layer_that_shares_is_the_last_of_its_kind() -> None:
    adapter, config = adapter_of("gemma4_text-shared"), UNEVEN["gemma4_text-shared"]
    assert [adapter.kv_source(config, layer) for layer in range(4)] == [0, 1, 0, 1]
    names = adapter.tensor_names(config, 3)
    assert {name for name in names if ".1." in name} == {
        "layers.1.self_attn.k_proj.weight", "layers.1.self_attn.v_proj.weight", "layers.1.input_layernorm.weight"
    }  # fmt: skip
    deeper = hf.Gemma4TextConfig(
        num_hidden_layers=7,
        num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention"] * 3 + ["full_attention"],
    )
    assert [adapter.kv_source(deeper, layer) for layer in range(7)] == [0, 1, 2, 3, 4, 3, 3]
