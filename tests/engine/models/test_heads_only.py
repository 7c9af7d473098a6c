"""Families whose heads are read and whose blocks are not: each head against the library's own modules, in fp64."""

from functools import cache
from typing import Any

import pytest
import torch
import transformers as hf
from adapter_models import randomise
from family_cases import HEADS_ONLY
from torch import Tensor, nn

from engine.errors import UserError
from engine.jacobians.tracing import InFloat64
from engine.models.adapters import ADAPTERS, Block

torch.set_num_threads(1)

LATENT = [name for name in HEADS_ONLY if not name.startswith("deberta")]
T, D = 7, 24


@cache
def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    config = HEADS_ONLY[name].config
    model = hf.AutoModel.from_config(config, attn_implementation="eager").double().eval().requires_grad_(False)
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    randomise(model)
    return model


def block_of(name: str, layer: int) -> Block:
    adapter, config, state = ADAPTERS[name], HEADS_ONLY[name].config, model_of(name).state_dict()
    found = adapter.locate(adapter.tensor_names(config, layer), state.keys())
    return adapter.block(config, layer, lambda tensor: state[found[tensor]])


@cache
def run(name: str, layer: int) -> dict[str, tuple[Tensor, Tensor]]:
    """What every module of a layer was given and gave, for a text; the weights of attention under ``weights``."""
    model = model_of(name)
    block = model.get_submodule(f"{HEADS_ONLY[name].layers}.{layer}")
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(path: str) -> Any:
        def hook(_: Any, args: Any, kwargs: Any, output: Any) -> None:
            given = next((part for part in (*args, *kwargs.values()) if isinstance(part, Tensor)), None)
            parts = output if isinstance(output, tuple) else (output,)
            if given is not None and isinstance(parts[0], Tensor):
                seen[path] = given[0].clone(), parts[0][0].clone()
            for part in parts[1:]:
                if isinstance(part, Tensor) and part.ndim == 4:
                    seen["weights"] = part[0], part[0]

        return hook

    handles = [part.register_forward_hook(keep(path), with_kwargs=True) for path, part in block.named_modules() if path]
    with torch.no_grad(), InFloat64():
        model(input_ids=torch.arange(3, 3 + T)[None], output_attentions=True)
    for handle in handles:
        handle.remove()
    return seen


def rms(x: Tensor, eps: float = 1e-6) -> Tensor:
    return (x.square().mean(-1, keepdim=True) + eps).sqrt()


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", LATENT)
def test_scores_of_latent_attention(name: str, layer: int) -> None:
    """With each token's norms put back, the scores of the heads and the rest of the library's add up to its weights."""
    config, block, seen = HEADS_ONLY[name].config, block_of(name, layer), run(name, layer)
    attention = model_of(name).get_submodule(f"layers.{layer}.self_attn")
    assert block.attn_norm is not None
    x, normed = seen["input_layernorm"]
    torch.testing.assert_close(x / rms(x, config.rms_norm_eps) * block.attn_norm.gain, normed, rtol=1e-5, atol=1e-5)
    rank, nope, rope = config.kv_lora_rank, config.qk_nope_head_dim, config.qk_rope_head_dim
    latent, turned = (normed @ attention.kv_a_proj_with_mqa.weight.T).split([rank, rope], -1)
    q_scale = 1 if config.q_lora_rank is None else 1 / rms(normed @ attention.q_a_proj.weight.T)
    queries = torch.stack([normed @ w.T * q_scale for w in block.heads.w_q])  # (H, T, d_h)
    keys, values = (torch.stack([normed @ w.T for w in part]) for part in (block.heads.w_k, block.heads.w_v))
    values = values / rms(latent)
    order = torch.arange(T)
    if queries.shape[-1] == nope:  # the rotary part, by the library's own modules
        assert block.rotary is None
        q = seen["self_attn.q_proj" if config.q_lora_rank is None else "self_attn.q_b_proj"][1]
        q_turned = q.view(T, -1, nope + rope)[..., nope:].transpose(0, 1)
        scores = queries @ (keys / rms(latent)).mT + rotated_scores(config, q_turned, turned)
    else:
        assert block.rotary is not None
        parts = keys.split([rope, nope], -1)
        keys = torch.cat((parts[0], parts[1] / rms(latent)), -1)
        rotary = block.rotary
        turns = torch.stack([torch.stack([rotary.rotation(int(j - i)) for j in order]) for i in order])
        scores = torch.einsum("hia,ijab,hjb->hij", queries, turns, keys)
    hidden = order > order[:, None]
    weights = (scores * attention.scaling).masked_fill(hidden, -torch.inf).softmax(-1)
    torch.testing.assert_close(weights, seen["weights"][0], rtol=1e-5, atol=1e-5)
    out = torch.einsum("hij,hje,hde->id", weights, values, block.heads.w_o)
    torch.testing.assert_close(out, seen["self_attn.o_proj"][1], rtol=1e-5, atol=1e-5)


def rotated_scores(config: Any, q: Tensor, k: Tensor) -> Tensor:
    """(H, T, T), of queries (H, T, r) and keys (T, r) that are not turned yet."""
    r = k.shape[-1]
    angle = torch.arange(T)[:, None] * 10000.0 ** (-torch.arange(0, r, 2, dtype=torch.float64) / r)
    if config.model_type == "minicpm3":
        pairs = [(part[..., : r // 2], part[..., r // 2 :]) for part in (q, k)]
    else:
        pairs = [(part[..., ::2], part[..., 1::2]) for part in (q, k)]
    q, k = (torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1) for a, b in pairs)
    return q @ k.T


@pytest.mark.parametrize("name", ["deberta", "deberta-v2"])
def test_projections_and_outputs_of_deberta(name: str) -> None:
    block, seen = block_of(name, 1), run(name, 1)
    heads = block.heads
    given = seen["attention.self"][0]
    if name == "deberta":
        fused = seen["attention.self.in_proj"][1].view(T, 4, 3, 6)
        expected = [fused[:, :, i].transpose(0, 1) for i in range(3)]
    else:
        paths = [f"attention.self.{part}_proj" for part in ("query", "key", "value")]
        state = model_of(name).encoder.layer[1].state_dict()
        expected = [(seen[path][1] - state[f"{path}.bias"]).view(T, 4, 6).transpose(0, 1) for path in paths]
    for weight, projected in zip((heads.w_q, heads.w_k, heads.w_v), expected, strict=True):
        torch.testing.assert_close(torch.einsum("hed,td->hte", weight, given), projected)
    context, out = seen["attention.output.dense"]
    bias = model_of(name).encoder.layer[1].attention.output.dense.bias
    made = torch.einsum("the,hde->td", context.view(T, 4, 6), heads.w_o) + bias
    torch.testing.assert_close(made, out)


@pytest.mark.parametrize("name", HEADS_ONLY)
def test_the_rest_is_refused_with_the_reason(name: str) -> None:
    adapter, config = ADAPTERS[name], HEADS_ONLY[name].config
    reason = adapter.closed_form_refusal(config)
    assert reason is not None
    with pytest.raises(UserError, match=reason[:20]):
        adapter.block(config, 0, model_of(name).state_dict().__getitem__, "all")
    facts = adapter.facts(config)
    assert facts["notices"]
    assert facts["d_head"] == block_of(name, 0).heads.w_q.shape[1]


def test_values_as_wide_as_neither_part_are_refused() -> None:
    config = hf.DeepseekV3Config(v_head_dim=48, qk_nope_head_dim=32, qk_rope_head_dim=8)
    with pytest.raises(UserError, match="Values of this model are 48 wide"):
        ADAPTERS["deepseek_v3"].facts(config)
