"""The two largest singular values of many samples' Jacobians against automatic differentiation and full SVDs."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.harness import Result, largest_difference, seconds
from benchmarks.jacobian_mean import gpt2_block
from engine.jacobians.closed import Component, component_operator
from engine.jacobians.spectra import Statistic, sample_statistics
from engine.jacobians.state import State

COMPONENTS: tuple[Component, ...] = ("attn", "mlp")


def jacobian_top(
    d: int = 768,
    heads: int = 12,
    f: int = 3072,
    samples: int = 600,
    tokens: int = 32,
    batched: int = 8,
    looped: int = 3,
) -> Result:
    """ρ and δ in context, fp32, for attention and MLP with random weights.

    The references are timed on `batched` and `looped` samples and scaled to all. Ours does everything from the hidden
    states on; random weights, whose singular values lie close together, are the hard case for it.
    """
    module, block = gpt2_block(d, heads, f)
    hidden = torch.randn(samples, tokens, d, generator=torch.Generator().manual_seed(1))
    lengths = torch.full((samples,), tokens)
    state = State(hidden, lengths, lengths - 1)
    taken: dict[str, tuple[float, float, float]] = {}
    differences = []
    for component in COMPONENTS:
        maps, inputs = _maps(module, hidden[:batched], component)

        def ours(component: Component = component) -> dict[Statistic, Tensor]:
            return sample_statistics(component_operator(block, state, component, "in_context"), ("rho", "delta"))

        def together(maps: Callable[..., Tensor] = maps, inputs: tuple[Tensor, Tensor] = inputs) -> Tensor:
            return torch.linalg.svdvals(torch.func.vmap(torch.func.jacrev(maps))(*inputs))

        found = ours()
        mine = seconds(ours, warm_up=False)
        began = time.perf_counter()
        values = together()
        vmapped = (time.perf_counter() - began) / batched * samples
        began = time.perf_counter()
        for x, others in zip(*(part[:looped] for part in inputs), strict=True):
            torch.linalg.svdvals(torch.autograd.functional.jacobian(lambda y, o=others: maps(y, o), x))  # noqa: B023
        taken[component] = mine, vmapped, (time.perf_counter() - began) / looped * samples
        expected: dict[Statistic, Tensor] = {"rho": values[:, 0], "delta": values[:, 1] / values[:, 0]}
        for name, value in expected.items():
            exact = value.double().numpy()
            differences.append(largest_difference(found[name][:batched].numpy(), exact, exact > 0))

    mine, vmapped, looped_taken = (sum(times) for times in zip(*taken.values(), strict=True))
    agreement = max(differences)
    return Result(
        "jacobian_top",
        mine,
        vmapped,
        agreement,
        demands={
            "at least 50 times faster than vmap(jacrev) and svdvals": vmapped >= 50 * mine,
            "at least 500 times faster than a loop over functional.jacobian and svdvals": looped_taken >= 500 * mine,
            "agrees to 1e-4 relative": agreement <= 1e-4,
        },
        facts={
            "what": f"ρ and δ of {samples} samples in context of {tokens} tokens, attention and MLP, fp32, d = {d}, "
            f"f = {f}, {torch.get_num_threads()} threads",
            "reference": f"vmap(jacrev) and svdvals, {batched} samples timed and scaled to all",
            f"ratio to the loop, {looped} samples timed and scaled": looped_taken / mine,
        }
        | {
            f"{component}: ratio to vmap(jacrev), to the loop": f"{theirs / ours_taken:.0f}, {loop / ours_taken:.0f}"
            for component, (ours_taken, theirs, loop) in taken.items()
        },
    )


@torch.no_grad()
def _maps(
    module: nn.Module, hidden: Tensor, component: Component
) -> tuple[Callable[[Tensor, Tensor], Tensor], tuple[Tensor, Tensor]]:
    """The component as a function of the last token and the ones before it, and these for every sample."""

    def attention(x: Tensor, before: Tensor) -> Tensor:
        # Only the last token's output is looked at, which sees all: no mask is needed.
        normed = module.get_submodule("ln_1")(torch.cat((before, x[None])))
        out: Tensor = module.get_submodule("attn")(normed[None])[0]
        return out.reshape(normed.shape)[-1]

    def mlp(x: Tensor, before: Tensor) -> Tensor:
        out: Tensor = module.get_submodule("mlp")(module.get_submodule("ln_2")(x))
        return out

    before, last = hidden[:, :-1], hidden[:, -1]
    if component == "attn":
        return attention, (last, before)
    return mlp, (last + torch.stack([attention(*one) for one in zip(last, before, strict=True)]), before)
