"""The MLP and its Jacobian (methods §6)."""

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from engine.jacobians.operators import Diagonal, Operator, Shared, Sum, chain
from engine.models.adapters.block import Mlp


def linearise_mlp(mlp: Mlp, x: Tensor) -> tuple[Tensor, Operator]:
    """w_out φ(w_in x) and w_out diag(φ′) w_in for x (N, d), or the same of a gated MLP."""
    w_in, w_out = mlp.w_in.to(x), mlp.w_out.to(x)
    n = len(x)
    up = _affine(x, w_in, mlp.b_in)
    inner: Operator
    if mlp.w_gate is None:
        hidden, slope = _activate(mlp.activation, up)
        inner = chain(Diagonal(slope), Shared(w_in, n))
    else:
        w_gate = mlp.w_gate.to(x)
        active, slope = _activate(mlp.activation, _affine(x, w_gate, mlp.b_gate))
        hidden = active * up
        inner = Sum((chain(Diagonal(slope * up), Shared(w_gate, n)), chain(Diagonal(active), Shared(w_in, n))))
    return _affine(hidden, w_out, mlp.b_out), chain(Shared(w_out, n), inner)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return nn.functional.linear(x, weight, None if bias is None else bias.to(x))


def _activate(name: str, z: Tensor) -> tuple[Tensor, Tensor]:
    """φ(z) and φ′(z), element by element, by the library's own function and its exact derivative."""
    value, pullback = torch.func.vjp(ACT2FN[name], z)[:2]
    return value, pullback(torch.ones_like(z))[0]
