"""Named sites of every architecture: how they add up, and what the library's own outputs say."""

from functools import cache
from typing import Any

import pytest
import torch
import transformers as hf
from adapter_models import BLOCKS, T, block_of, inputs_of, model_of
from family_cases import FAMILY_BLOCKS, FAMILY_CASES
from torch import Tensor

from engine.errors import UserError
from engine.jacobians.tracing import InFloat64
from engine.models.adapters import Norm
from engine.models.sites import MEANINGS, observe, sites

torch.set_num_threads(1)

CORE = {"attn_out", "mlp_in", "mlp_act", "mlp_out", "block", "embedding"}
# By hand, from the papers' drawings of a block.
LAYOUTS = {
    "pre": CORE | {"ln1", "resid_mid", "ln2", "final_norm"},
    "parallel": CORE | {"ln1", "ln2", "final_norm"},
    "after": CORE | {"ln1_post", "resid_mid", "ln2_post", "final_norm"},
    "both": CORE | {"ln1", "ln1_post", "resid_mid", "ln2", "ln2_post", "final_norm"},
    "sum": CORE | {"resid_mid", "ln1_post", "resid_post"},
}
GATED = ("llama", "mistral", "qwen", "olmo", "gemma")
FAMILIES = FAMILY_CASES | FAMILY_BLOCKS


def mlp_kind(name: str) -> str:
    if name in FAMILIES:
        return FAMILIES[name].mlp
    return "gated" if name.startswith(GATED) else "plain"


def layout(name: str) -> str:
    if name in FAMILIES:
        return FAMILIES[name].layout
    if name == "gpt_neox":
        return "parallel"
    if name.startswith("gemma"):
        return "both"
    if name.startswith(("olmo2", "olmo3")):
        return "after"
    return "sum" if name.startswith(("bert", "roberta", "opt-post")) else "pre"


# Their last norm does not stand beside the row of blocks.
OUTSIDE = ("roberta-prelayernorm",)


@cache
def seen(name: str) -> dict[tuple[str, int], Tensor]:
    """Every site of the case's model, (T, width), from one forward pass; and what the library says of it."""
    model = model_of(name)
    found: dict[tuple[str, int], Tensor] = {}
    chosen = (*sites(model, "sublayers"), *sites(model, "entrances"))

    def take(site: Any, hidden: Tensor) -> None:
        assert hidden.shape[0] == 1
        found[site.name, site.layer] = hidden[0].clone()

    with InFloat64():
        output = observe(model, chosen, inputs_of(name) | {"output_hidden_states": True}, take)
    assert len(found) == len(chosen)
    for layer, hidden in enumerate(output.hidden_states):
        found["library", layer] = hidden[0]
    found["library", -1] = output.last_hidden_state[0]
    return found


def normed(norm: Norm, x: Tensor) -> Tensor:
    x = x - x.mean(-1, keepdim=True) if norm.kind == "layernorm" else x
    x = x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return x * (1 if norm.gain is None else norm.gain) + (0 if norm.bias is None else norm.bias)


def same(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_model_has_the_sites_of_its_architecture_and_no_others(name: str) -> None:
    expected = LAYOUTS[layout(name)] | ({"mlp_gate"} if mlp_kind(name) == "gated" else set())
    if mlp_kind(name) == "fused":
        expected -= {"mlp_in"}
    if name in OUTSIDE:
        expected -= {"final_norm"}
    found = sites(model_of(name), "sublayers")
    assert {site.name for site in found} == expected
    assert [(site.name, site.layer) for site in found if site.name in ("embedding", "final_norm")] == [
        ("embedding", 0),
        *([("final_norm", 1)] if "final_norm" in expected else []),
    ]
    assert [site.layer for site in sites(model_of(name))] == [0, 1]
    assert set(LAYOUTS["both"] | LAYOUTS["sum"] | {"mlp_gate", "before_attn", "before_mlp"}) == set(MEANINGS)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_residual_stream_adds_up(name: str) -> None:
    at = seen(name)
    for layer in range(2):
        block = block_of(name, layer, "all")
        x = at["embedding", 0] if layer == 0 else at["block", layer - 1]
        same(at["before_attn", layer], x)
        kind, scale = layout(name), block.sublayer_scale
        if kind == "parallel":
            same(at["before_mlp", layer], x)
            same(at["block", layer], x + at["attn_out", layer] + at["mlp_out", layer])
            continue
        added = at["ln1_post" if kind in ("after", "both") else "attn_out", layer]
        same(at["resid_mid", layer], x + scale * added)
        meets = at["ln1_post" if kind == "sum" else "resid_mid", layer]
        same(at["before_mlp", layer], meets)
        total = meets + scale * at["ln2_post" if kind in ("after", "both") else "mlp_out", layer]
        if kind == "sum":
            assert block.mlp_sum is not None
            same(at["resid_post", layer], total)
            same(at["block", layer], normed(block.mlp_sum, total))
        else:
            same(at["block", layer], block.residual_scale * total)


@pytest.mark.parametrize("name", BLOCKS)
def test_norms_and_mlp_have_made_what_is_seen_after_them(name: str) -> None:
    at = seen(name)
    for layer in range(2):
        block = block_of(name, layer, "all")
        mlp = block.mlp
        assert mlp is not None
        pairs = [
            ("ln1", block.attn_norm, "before_attn"),
            ("ln1_post", block.attn_post, "attn_out"),
            ("ln1_post", block.attn_sum, "resid_mid"),
            ("ln2", block.mlp_norm, "before_mlp"),
            ("ln2_post", block.mlp_post, "mlp_out"),
        ]
        for after, norm, before in pairs:
            if norm is not None:
                same(at[after, layer], normed(norm, at[before, layer]))
        x = at["ln2" if block.mlp_norm else "before_mlp", layer]
        entered = x @ mlp.w_in.T + (0 if mlp.b_in is None else mlp.b_in)
        act = hf.activations.ACT2FN[mlp.activation]
        if mlp.w_gate is None:
            inside = act(entered)
        else:
            gate = x @ mlp.w_gate.T + (0 if mlp.b_gate is None else mlp.b_gate)
            inside = act(gate) * entered
        if mlp_kind(name) != "fused":
            same(at["mlp_in", layer], entered)
        if mlp_kind(name) == "gated":
            same(at["mlp_gate", layer], gate)
        same(at["mlp_act", layer], inside)
        same(at["mlp_out", layer], inside @ mlp.w_out.T + (0 if mlp.b_out is None else mlp.b_out))


@pytest.mark.parametrize("name", BLOCKS)
def test_ends_and_blocks_are_the_library_s_hidden_states(name: str) -> None:
    at = seen(name)
    same(at["embedding", 0], at["library", 0])
    same(at["block", 0], at["library", 1])
    if "opt-post-norm" not in name and name not in OUTSIDE:  # there a projection follows
        same(at["final_norm" if ("final_norm", 1) in at else "block", 1], at["library", -1])


def test_a_batch_keeps_its_shape_and_the_model_its_hooks() -> None:
    model = model_of("opt")

    def hooks() -> int:
        return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())

    before = hooks()  # the library puts some of its own
    ids = torch.randint(2, 50, (3, T))
    shapes = set()

    def take(site: Any, hidden: Tensor) -> None:
        shapes.add(hidden.shape[:2])

    observe(model, sites(model, "sublayers"), {"input_ids": ids}, take)
    assert shapes == {(3, T)}
    assert hooks() == before

    def fail(site: Any, hidden: Tensor) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        observe(model, sites(model), {"input_ids": ids}, fail)
    assert hooks() == before


def test_a_model_with_a_head_has_the_same_sites_and_gives_its_logits() -> None:
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(BLOCKS["gpt2"].config, attn_implementation="eager").eval()
    expected = sites(model_of("gpt2"), "sublayers")
    found = sites(model, "sublayers")
    assert [(site.name, site.layer, site.side) for site in found] == [(s.name, s.layer, s.side) for s in expected]
    assert [site.path for site in found] == [f"transformer.{site.path}" for site in expected]
    assert observe(model, found, {"input_ids": torch.arange(5)[None]}, lambda *_: None).logits.shape == (1, 5, 50)


def test_without_an_adapter_there_are_the_blocks_alone() -> None:
    config = hf.FNetConfig(hidden_size=24, num_hidden_layers=2, intermediate_size=32, vocab_size=50)
    model = hf.AutoModel.from_config(config, attn_implementation="eager").eval()
    assert [site.name for site in sites(model, "sublayers")] == ["block", "block"]
    assert [site.name for site in sites(model, "entrances")] == ["before_attn", "before_attn"]
    found = []
    output = observe(
        model,
        sites(model),
        {"input_ids": torch.arange(5)[None], "output_hidden_states": True},
        lambda site, hidden: found.append(hidden.clone()),
    )
    same(found[0], output.hidden_states[1])


def test_a_module_without_blocks_is_refused() -> None:
    model = hf.AutoModel.from_config(hf.ResNetConfig(num_labels=2), attn_implementation="eager").eval()
    model.config.num_hidden_layers = 5
    with pytest.raises(UserError, match="No row of 5 blocks"):
        sites(model)
