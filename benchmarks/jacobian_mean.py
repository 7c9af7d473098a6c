"""The mean Jacobian of a block against a loop over ``torch.autograd.functional.jacobian`` (methods §6)."""

import time

import torch
from torch import Tensor, nn

from benchmarks.harness import Result, seconds
from engine.jacobians.means import mean_jacobian
from engine.jacobians.state import ResidualState
from engine.models.adapters import ADAPTERS, Block


def gpt2_block(d: int, heads: int, f: int, seed: int = 0) -> tuple[nn.Module, Block]:
    """The library's own GPT-2 block with random weights, and the adapter's account of it."""
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block

    config = GPT2Config(n_embd=d, n_head=heads, n_inner=f, n_layer=1, n_positions=128)
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    module = GPT2Block(config, layer_idx=0).eval().requires_grad_(False)
    for name, parameter in module.named_parameters():
        spread = 0.1 if parameter.ndim == 1 else parameter.shape[0] ** -0.5
        centre = 1.0 if name.startswith("ln") and name.endswith("weight") else 0.0
        parameter.copy_(centre + spread * torch.randn_like(parameter))
    adapter, tensors = ADAPTERS["gpt2"], {f"h.0.{name}": value for name, value in module.state_dict().items()}
    located = adapter.locate(adapter.tensor_names(config, 0, "all"), tensors.keys())
    return module, adapter.block(config, 0, lambda name: tensors[located[name]], "all")


def jacobian_mean(
    d: int = 768, heads: int = 12, f: int = 3072, samples: int = 1000, looped: int = 10, repeats: int = 3
) -> Result:
    """Isolated, whole block, fp32. The loop is timed on `looped` samples and scaled to all."""
    module, block = gpt2_block(d, heads, f)
    hidden = torch.randn(samples, 1, d, generator=torch.Generator().manual_seed(1))
    state = ResidualState(hidden, torch.ones(samples, dtype=torch.long), torch.zeros(samples, dtype=torch.long))

    def one(x: Tensor) -> Tensor:
        return module(x[None, None])[0].reshape(d)

    began = time.perf_counter()
    loop = torch.stack([torch.autograd.functional.jacobian(one, x) for x in hidden[:looped, 0]])
    reference = (time.perf_counter() - began) / looped * samples
    taken = seconds(lambda: mean_jacobian(block, state, "block", "isolated"), repeats)

    def distance(ours: Tensor, exact: Tensor) -> float:
        return float((ours - exact).norm() / exact.norm())

    from_loop = distance(mean_jacobian(block, state[:looped], "block", "isolated"), loop.double().mean(0))
    double = mean_jacobian(block, state.to(torch.float64), "block", "isolated")
    agreement = max(from_loop, distance(mean_jacobian(block, state, "block", "isolated"), double))
    ratio = reference / taken
    return Result(
        "jacobian_mean",
        taken,
        reference,
        agreement,
        demands={"at least 1000 times faster": ratio >= 1000, "agrees to 1e-5 relative": agreement <= 1e-5},
        facts={
            "what": f"mean block Jacobian, isolated, fp32, N = {samples:,}, d = {d}, f = {f}, "
            f"{torch.get_num_threads()} threads",
            "reference": f"loop over torch.autograd.functional.jacobian, {looped} samples timed and scaled to all",
            "difference from the loop's mean over its samples": from_loop,
        },
    )
