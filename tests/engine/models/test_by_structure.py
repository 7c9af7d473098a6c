"""Architectures without an adapter of their own, read as a family that their layers agree with."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from adapter_case import GQA, SLIDING, SMALL, rope
from adapter_models import randomise
from torch import Tensor, nn

from engine.jacobians.closed import component_operators
from engine.jacobians.reference import reference_operators
from engine.jacobians.stream import ResidualStream
from engine.jacobians.tracing import InFloat64
from engine.models.adapters import ADAPTERS, Adapter, adapter_for
from engine.models.adapters.by_structure import EXPERTS, OTHER_MLP, adapter_by_structure
from engine.models.adapters.forward import attention_output, block_output
from engine.models.adapters.phi3 import Phi3
from engine.models.opening import open_model
from engine.models.sites import sites
from engine.request import ModelSpec

torch.set_num_threads(1)

WIDE = GQA | {"head_dim": 8}
BARE = SMALL | {"intermediate_size": 32}
# Config, and the family that its blocks are those of.
DENSE: dict[str, tuple[hf.PreTrainedConfig, str]] = {
    "ministral": (hf.MinistralConfig(**WIDE, sliding_window=4, layer_types=SLIDING), "qwen2"),
    "cwm": (hf.CwmConfig(**WIDE, sliding_window=4, layer_types=SLIDING), "qwen2"),
    "seed_oss": (hf.SeedOssConfig(**WIDE, attention_bias=True, attention_out_bias=False), "llama"),
    "arcee": (hf.ArceeConfig(**WIDE), "llama"),  # no gate
    "jais2": (hf.Jais2Config(**WIDE), "llama"),  # LayerNorm, no gate
    "vaultgemma": (
        hf.VaultGemmaConfig(**WIDE, query_pre_attn_scalar=7, layer_types=SLIDING, sliding_window=4),
        "gemma2",
    ),
    "camembert": (hf.CamembertConfig(**BARE), "bert"),
    "eurobert": (hf.EuroBertConfig(**WIDE), "llama"),  # bidirectional
}
MIXTURES: dict[str, tuple[hf.PreTrainedConfig, str]] = {
    "mixtral": (hf.MixtralConfig(**GQA, num_local_experts=4, sliding_window=4), "mistral"),
    "qwen2_moe": (
        hf.Qwen2MoeConfig(**GQA, num_experts=4, moe_intermediate_size=16, shared_expert_intermediate_size=16),
        "llama",
    ),
    "qwen3_moe": (hf.Qwen3MoeConfig(**WIDE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16), "qwen3"),
    "olmoe": (hf.OlmoeConfig(**GQA, num_experts=4, num_experts_per_tok=2), "qwen3"),  # norms over all queries together
    "granitemoe": (hf.GraniteMoeConfig(**GQA, num_local_experts=4, residual_multiplier=0.5), "granite"),
    "ernie4_5_moe": (
        hf.Ernie4_5_MoeConfig(**GQA, moe_num_experts=4, moe_k=2, moe_intermediate_size=16, moe_layer_start_index=1),
        "glm",
    ),  # rotary pairs of neighbours, a dense layer first
    "cohere2_moe": (
        hf.Cohere2MoeConfig(**WIDE, num_experts=4, sliding_window=4, layer_types=SLIDING),
        "cohere2",
    ),  # side by side
}
ALL = DENSE | MIXTURES


@cache
def opened(name: str) -> tuple[nn.Module, Adapter]:
    """A model of the config itself, and the adapter that was found for it."""
    config, _ = ALL[name]
    adapter = adapter_for(config)
    assert adapter is not None
    assert config.model_type not in ADAPTERS
    torch.manual_seed(0)
    model = hf.AutoModel.from_config(config, attn_implementation="eager").double().eval().requires_grad_(False)
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    randomise(model)
    return model, adapter


def block_of(name: str, layer: int) -> Any:
    model, adapter = opened(name)
    config, state = ALL[name][0], model.state_dict()
    found = adapter.locate(adapter.tensor_names(config, layer, "all"), state.keys())
    if name in MIXTURES:  # as a whole, without its MLP
        vars(adapter).pop("closed_form_refusal", None)
    block = adapter.block(config, layer, lambda tensor: state[found[tensor]], "all")
    if name in MIXTURES:
        vars(adapter)["closed_form_refusal"] = lambda config: EXPERTS
    return block


@pytest.mark.parametrize("name", ALL)
def test_it_is_read_as_a_family_and_says_so(name: str) -> None:
    config, family = ALL[name]
    model, adapter = opened(name)
    facts = adapter.facts(config)
    assert facts["family"] == family
    assert f"is read as {family}" in facts["notices"][-1]
    assert facts["causal"] == (name not in ("camembert", "eurobert"))
    assert adapter.closed_form_refusal(config) == (EXPERTS if name in MIXTURES else None)
    names = {site.name for site in sites(model, "sublayers")}
    assert {"attn_out", "mlp_out", "block"} <= names
    assert ("mlp_act" in names) == (name in DENSE)


@pytest.mark.parametrize("name", ALL)
def test_its_blocks_compute_what_the_library_s_do(name: str) -> None:
    """Of the model itself, in float64 throughout: more than the check on a small one asks for."""
    model, adapter = opened(name)
    generator = torch.Generator().manual_seed(2)
    depth = ALL[name][0].num_hidden_layers
    seen: list[tuple[Tensor, Tensor]] = []
    given = [torch.randn(1, 9, 24, generator=generator, dtype=torch.float64) for _ in range(depth)]
    handles = []
    for layer in range(depth):
        block = model.get_submodule(adapter.layer_path.format(layer=layer))

        def put(_: Any, args: Any, kwargs: Any, layer: int = layer) -> Any:
            return ((given[layer], *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": given[layer]})

        handles.append(block.register_forward_pre_hook(put, with_kwargs=True))
        whole = block if name in DENSE else block.get_submodule(adapter.linears["o"])
        handles.append(
            whole.register_forward_hook(
                lambda _, __, out, layer=layer: seen.append(
                    (given[layer][0], (out[0] if isinstance(out, tuple) else out)[0])
                )
            )
        )
    with torch.no_grad(), InFloat64():
        model(input_ids=torch.arange(2, 11)[None])
    for handle in handles:
        handle.remove()
    compute = block_output if name in DENSE else attention_output
    for layer, (x, y) in enumerate(seen):
        torch.testing.assert_close(compute(block_of(name, layer), x), y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["arcee", "eurobert"])
def test_its_closed_forms_are_those_of_the_reference(name: str) -> None:
    stream = ResidualStream(opened(name)[0], torch.tensor([[5, 9, 3, 7, 11]]), [3])
    samples, state = next(stream.states(torch.float64))
    closed = component_operators(block_of(name, 0), state, "in_context")
    reference = reference_operators(stream.blocks, 0, stream.inputs(samples), state, ["attn", "mlp"], "in_context")
    for component in reference:
        torch.testing.assert_close(closed[component].dense(), reference[component].dense(), rtol=1e-9, atol=1e-9)


# Nothing but the numbers decides


OFFERED: dict[str, tuple[hf.PreTrainedConfig, list[str]]] = {
    "a gain of 1 + w": (hf.GemmaConfig(**WIDE), ["llama", "mistral"]),
    "rotary pairs of neighbours": (hf.HeliumConfig(**GQA, head_dim=4), ["llama"]),
    "what scores are multiplied by": (hf.GraniteConfig(**GQA, attention_multiplier=0.3), ["llama"]),
    "layers without positions": (hf.SmolLM3Config(**GQA, no_rope_layers=[1, 0]), ["llama", "qwen2"]),
    "sublayers side by side": (hf.GPTNeoXConfig(**BARE), ["bloom", "persimmon"]),
    "a soft-cap": (hf.Gemma2Config(**WIDE), ["gemma3_text", "glm4"]),
    "sparse attention of long texts": (hf.BigBirdConfig(**BARE), ["bert", "roberta"]),
    "queries that grow with the position": (hf.Ministral3Config(**WIDE), ["llama", "mistral"]),
}


@pytest.mark.parametrize("difference", OFFERED)
def test_a_family_that_computes_something_else_is_not_taken(difference: str) -> None:
    config, families = OFFERED[difference]
    assert adapter_by_structure(config, [ADAPTERS[family] for family in families]) is None


def test_layers_that_come_late_are_seen() -> None:
    """Experts from the fourth layer on, in a model whose first layers are an ordinary family's."""
    deep = GQA | {"num_hidden_layers": 6}
    config = hf.Ernie4_5_MoeConfig(**deep, moe_num_experts=4, moe_intermediate_size=16, moe_layer_start_index=3)
    adapter = adapter_for(config)
    assert adapter is not None
    assert adapter.closed_form_refusal(config) == EXPERTS


def test_what_cannot_be_made_small_has_no_adapter() -> None:
    for config in (hf.T5Config(), hf.MambaConfig(), hf.FNetConfig(), hf.XLNetConfig()):
        assert adapter_for(config) is None


def test_torch_s_own_stream_is_left_alone() -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    adapter_for(hf.ArceeConfig(**WIDE, rope_parameters=rope("linear")))
    assert torch.equal(torch.rand(3), expected)


def test_a_saved_mixture_opens_without_its_experts_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    saved = hf.MixtralForCausalLM(MIXTURES["mixtral"][0])
    saved.save_pretrained(tmp_path)
    model = open_model(ModelSpec(source=str(tmp_path)))
    read: list[str] = []
    original = model._get
    monkeypatch.setattr(model, "_get", lambda name: read.append(name) or original(name))
    heads = model.block(1).heads
    assert torch.equal(heads.w_q.reshape(24, 24), saved.state_dict()["model.layers.1.self_attn.q_proj.weight"])
    assert heads.w_k.shape == (2, 4, 24)
    assert read
    assert not [name for name in read if "expert" in name or "mlp" in name]
    assert model.closed_form_refusal() == EXPERTS
    assert model.info.family == "mistral"
    assert torch.isfinite(model.module()(input_ids=torch.arange(9)[None])[0]).all()


def test_an_mlp_of_its_own_form_leaves_the_heads() -> None:
    class Strange(Phi3):
        """Knows nothing of MLPs."""

        linears = {role: Phi3.linears[role] for role in ("qkv", "o")}

    config = hf.Phi3Config(**GQA)
    adapter = adapter_by_structure(config, [Strange()])
    assert adapter is not None
    assert adapter.closed_form_refusal(config) == OTHER_MLP
