"""Spectra of products AᵀB of wide factors, from r×r matrices only: the d×d product is never formed (methods §2).

`a` is (H, r, d) and `b` is (H_kv, r, d) with H a multiple of H_kv; factor h of `a` goes with factor h // (H // H_kv) of
`b`, whose QR is done once. Everything runs in fp64 on the input's device, whatever the input's dtype: in fp32 σ has an
absolute error of about 1e-7 σ_1, so that λ = σ² would be wrong by more than 1e-5 from λ = 4e-4 λ_1 down.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Fold:
    """A norm folded into a matrix W (…, d) that reads it: scale by `gain` (d,) and, for LayerNorm, centre."""

    gain: Tensor | None
    centre: bool

    def __call__(self, w: Tensor) -> Tensor:
        """W diag(γ), or for LayerNorm W diag(γ) (I − 11ᵀ/d), in fp64."""
        w = w.double()
        if self.gain is not None:
            w = w * self.gain.to(w)
        return w - w.mean(-1, keepdim=True) if self.centre else w


def structural_rank(r: int, d: int, fold: Fold | None) -> int:
    """Number of singular values that can be nonzero in a product of (r, d) factors, one or both of them folded."""
    return min(r, d - 1 if fold is not None and fold.centre else d)


def triangular(a: Tensor) -> Tensor:
    """R of the thin QR of aᵀ, (..., min(r, d), r), which determines the spectrum of the factor `a` (..., r, d)."""
    return torch.linalg.qr(a.double().mT, mode="r").R


def core_singular_values(r_a: Tensor, r_b: Tensor, middle: Tensor | None = None) -> Tensor:
    """Singular values of Aᵀ M B from the factors' `triangular` parts.

    Aᵀ = Q₁R₁ and Bᵀ = Q₂R₂ give Aᵀ M B = Q₁ (R₁ M R₂ᵀ) Q₂ᵀ.

    Parameters
    ----------
    r_a : Tensor (H, k, r)
    r_b : Tensor (H_kv, k, r)
    middle : Tensor (r, r), optional
        M, such as a rotary rotation; the identity by default.

    Returns
    -------
    Tensor (H, k), fp64, descending.
    """
    left = r_a if middle is None else r_a @ middle.to(r_a)
    right = r_b.repeat_interleave(len(r_a) // len(r_b), dim=0)
    return torch.linalg.svdvals(left @ right.mT)


def singular_values(a: Tensor, b: Tensor, middle: Tensor | None = None) -> Tensor:
    """Singular values of A_hᵀ M B_h for all h: (H, min(r, d)), fp64, descending."""
    return core_singular_values(triangular(a), triangular(b), middle)


def eigenvalues(a: Tensor, b: Tensor, middle: Tensor | None = None) -> Tensor:
    """The possibly nonzero eigenvalues of the d×d matrices A_hᵀ M B_h: those of the r×r matrices M B_h A_hᵀ.

    Returns
    -------
    Tensor (H, r), complex128, by descending modulus; of a conjugate pair the positive imaginary part comes first.
    """
    a64 = a.double().unflatten(0, (len(b), -1))
    small = (b.double().unsqueeze(1) @ a64.mT).flatten(0, 1)
    if middle is not None:
        small = middle.to(small) @ small
    return by_modulus(torch.linalg.eigvals(small))


def by_modulus(values: Tensor) -> Tensor:
    """Complex eigenvalues (..., n) by descending modulus, of a conjugate pair the positive imaginary part first."""
    # Conjugates have one modulus up to rounding; a rounded key lets the sign of the imaginary part decide.
    values = torch.take_along_dim(values, torch.argsort(values.imag, dim=-1, descending=True), dim=-1)
    key = values.abs()
    key = (key / key.amax(-1, keepdim=True).clamp_min(torch.finfo(key.dtype).tiny)).round(decimals=12)
    return torch.take_along_dim(values, torch.argsort(key, dim=-1, descending=True, stable=True), dim=-1)
