"""Norms and their Jacobians (methods §6)."""

from typing import Protocol

from torch import Tensor
from torch.nn import functional

from engine.jacobians.operators import NormJacobian
from engine.models.adapters.block import Norm, NormKind


class Scaling(Protocol):
    """What `Norm` and `HeadNorm` have in common."""

    @property
    def kind(self) -> NormKind: ...
    @property
    def gain(self) -> Tensor | None: ...
    @property
    def eps(self) -> float: ...


def linearise(norm: Scaling, x: Tensor) -> tuple[Tensor, NormJacobian]:
    """The normed x (N, d), without a bias, and the Jacobian there."""
    centred = norm.kind == "layernorm"
    if centred:
        x = x - x.mean(-1, keepdim=True)
    scale = (x.square().mean(-1) + norm.eps).rsqrt()
    unit = scale[..., None] * x
    gain = None if norm.gain is None else norm.gain.to(x)
    return unit if gain is None else gain * unit, NormJacobian(scale, unit, gain, centred)


def normalise(norm: Norm | None, x: Tensor) -> Tensor:
    """n(x) alone, in one pass over x (..., d)."""
    if norm is None:
        return x
    gain, bias = (None if part is None else part.to(x) for part in (norm.gain, norm.bias))
    if norm.kind == "layernorm":
        return functional.layer_norm(x, x.shape[-1:], gain, bias, norm.eps)
    y = functional.rms_norm(x, x.shape[-1:], gain, norm.eps)
    return y if bias is None else y + bias


def linearise_norm(norm: Norm | None, x: Tensor) -> tuple[Tensor, NormJacobian | None]:
    """n(x) for x (..., d) with its Jacobian; x itself and None where there is no norm."""
    if norm is None:
        return x, None
    y, jacobian = linearise(norm, x)
    return y if norm.bias is None else y + norm.bias.to(y), jacobian
