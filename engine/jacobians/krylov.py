"""Leading singular triplets of many operators at once, from products with them alone (methods §6)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.jacobians.operators import Operator
from engine.spectra.threads import over_threads

# Starting vectors: with one, a pair of equal singular values would be taken for a single one.
BLOCK = 2
# Approximate singular vectors that are kept, which tell `davidson` where the spectrum lies close together.
NEAR = 16
# Rows that the bases have at first; they grow.
ROOM = 32
# Converged samples are carried along until they are this share: leaving copies those that stay.
LEAVING = 0.25


@dataclass(frozen=True)
class Top:
    """What was found of each sample.

    Attributes
    ----------
    values : Tensor, (N, NEAR) float64
        σ₁ and σ₂, and lower bounds of the following; 0 where there is none.
    right : Tensor, (N, NEAR, d_in)
        Right singular vectors, as rows; 0 where there is none.
    converged : Tensor, (N,) bool
        Where the number of columns was enough for the first two.
    """

    values: Tensor
    right: Tensor
    converged: Tensor

    @classmethod
    def nothing(cls, n: int, like: Tensor) -> "Top":
        """Before any is found."""
        values = like.new_zeros(n, NEAR, dtype=torch.float64)
        return cls(values, like.new_zeros(n, NEAR, like.shape[-1]), values.new_zeros(n, dtype=torch.bool))

    def __getitem__(self, samples: Tensor) -> "Top":
        return Top(self.values[samples], self.right[samples], self.converged[samples])


def golub_kahan(operator: Operator, start: Tensor, tolerance: float, most: int, third: Tensor | None = None) -> Top:
    """σ₁ and σ₂ of every sample by block bidiagonalisation, in a basis of at most `most` columns.

    With m columns, J V = U B for B (m, m) upper triangular, and Jᵀ U = V Bᵀ + V′ R Eᵀ where E picks the last block.
    Singular triplets (θᵢ, pᵢ, qᵢ) of B are those of J but for residuals R Eᵀ pᵢ, from which `_error` bounds what θ₁ and
    θ₂ are off by. For σ₃ stands θ₃, or `third` (N,) where that is larger.

    Parameters
    ----------
    operator : Operator, (N, d_out, d_in)
    start : Tensor, (N, BLOCK, d_in)
        Orthonormal rows.
    tolerance : float
        Bound on the error of σ₁ and σ₂ relative to σ₂ at which a sample is done.
    most : int
    third : Tensor, (N,), optional
    """
    n, d_out, d_in = operator.shape
    block, top = start.mT, Top.nothing(n, start)
    u, v = (start.new_empty(n, ROOM, d) for d in (d_out, d_in))
    b = top.values.new_zeros(n, 0, 0)
    spare = draw(max(d_out, d_in)).to(start)
    third = b.new_zeros(n) if third is None else third
    # Numbers of the samples that are carried along, and which of these have not converged.
    active, going = torch.arange(n, device=start.device), torch.ones(n, dtype=torch.bool, device=start.device)
    columns, most, check = 0, min(most, d_out, d_in), 2
    while columns + BLOCK <= most:
        before, columns = columns, columns + BLOCK
        if columns > v.shape[1]:
            u, v = (torch.cat((basis, torch.empty_like(basis)), 1) for basis in (u, v))
        v[:, before:columns] = block.mT
        left, above, corner = orthogonalise(operator.matmul(block), u[:, :before].mT, spare[:d_out], 1)
        u[:, before:columns] = left.mT
        b = torch.cat((torch.nn.functional.pad(b, (0, 0, 0, BLOCK)), torch.cat((above, corner), 1)), 2)
        block, _, rest = orthogonalise(operator.rmatmul(left), v[:, :columns].mT, spare[:d_in], 2)
        last = columns + BLOCK > most
        if columns // BLOCK + 1 < check and not last:
            continue
        check = check + max(1, check // 5)
        # Eigenvalues of B Bᵀ come at half the price, and singular values then decide.
        left_over = going.nonzero()[:, 0]
        small = b[left_over]
        square, p = _small(torch.linalg.eigh, small @ small.mT)
        theta = square.clamp(min=0).sqrt().flip(1)
        likely = _within(tolerance, theta, p.flip(2), rest[left_over], third[left_over], block) | last
        kept = left_over[likely]
        if not len(kept):
            continue
        p, theta, q = _small(torch.linalg.svd, b[kept])
        done = _within(tolerance, theta, p, rest[kept], third[kept], block)
        top.converged[active[kept]] = done
        top.values[active[kept], : min(NEAR, columns)] = theta[:, :NEAR]
        top.right[active[kept], : min(NEAR, columns)] = q[:, :NEAR].to(v) @ v[kept, :columns]
        going[kept[done]] = False
        if not going.any():
            break
        if (~going).sum() < LEAVING * len(going):
            continue
        keep = going.nonzero()[:, 0]
        active, operator, third, going = active[keep], operator[keep], third[keep], going[keep]
        b, block = b[keep], block[keep]
        u, v = (_kept(basis, keep, columns) for basis in (u, v))
    return top


def lanczos(operator: Operator, start: Tensor, tolerance: float, most: int) -> Top:
    """σ₁ and σ₂ of every sample roughly, by block Lanczos of JᵀJ: a third of the work on bases of `golub_kahan`.

    With m columns, JᵀJ V = V T + V′ R Eᵀ for T (m, m) block tridiagonal. Squares, and bases that are orthogonal to no
    more than rounding of JᵀJ, do where products are rough. Parameters as in `golub_kahan`.
    """
    n, d_out, d_in = operator.shape
    block, top = start.mT, Top.nothing(n, start)
    v = start.new_empty(n, ROOM, d_in)
    most = min(most, d_out, d_in)
    t = top.values.new_zeros(n, most, most)
    spare, scale = draw(d_in).to(start), start.new_ones(n, 1, 1)
    active, going = torch.arange(n, device=start.device), torch.ones(n, dtype=torch.bool, device=start.device)
    columns, check = 0, 4
    while columns + BLOCK <= most:
        before, columns = columns, columns + BLOCK
        if columns > v.shape[1]:
            v = torch.cat((v, torch.empty_like(v)), 1)
        v[:, before:columns] = block.mT
        image = operator.matmul(block)
        if not before:
            scale = image.abs().amax((1, 2), keepdim=True)
            scale = scale.where(scale > 0, 1)
        block, above, rest = orthogonalise(operator.rmatmul(image / scale) / scale, v[:, :columns].mT, spare, 1)
        t[:, :columns, before:columns] = above
        t[:, before:columns, :columns] = above.mT
        last = columns + BLOCK > most
        if columns // BLOCK < check and not last:
            continue
        check = columns // BLOCK + max(1, check // 5)
        left_over = going.nonzero()[:, 0]
        square, p = (x.flip(-1)[..., :NEAR] for x in _small(torch.linalg.eigh, t[left_over, :columns, :columns]))
        theta = square.clamp(min=0).sqrt()
        size = (rest[left_over] @ p[:, -BLOCK:, :2]).norm(dim=1) / theta[:, :2].clamp(min=torch.finfo(v.dtype).eps)
        third = theta.new_zeros(len(theta)) if columns == BLOCK else theta[:, BLOCK]
        done = _close(tolerance, theta, size.norm(dim=1), third, v) | last
        kept, number = left_over[done], active[left_over[done]]
        top.converged[number] = True
        top.values[number, : min(NEAR, columns)] = theta[done] * scale[kept, 0].double()
        top.right[number, : min(NEAR, columns)] = p[done].mT.to(v) @ v[kept, :columns]
        going[kept] = False
        if not going.any():
            break
        if (~going).sum() < LEAVING * len(going):
            continue
        keep = going.nonzero()[:, 0]
        active, operator, scale, going = active[keep], operator[keep], scale[keep], going[keep]
        t, block, v = t[keep], block[keep], _kept(v, keep, columns)
    return top


def davidson(operator: Operator, guess: Top, tolerance: float, most: int) -> Top:
    """σ₁ and σ₂ of every sample by Davidson's method, from approximate singular vectors that are already good.

    Each step adds to the basis what the residuals of the first two Ritz vectors of JᵀJ show to be missing. Along the
    approximate singular vectors it is (θ² − σⱼ²)⁻¹ times the residual, and θ⁻² times it in the bulk, where σ ≪ θ.
    """
    scale = guess.values[:, 0].where(guess.values[:, 0] > 0, 1).to(guess.right)[:, None, None]
    top = Top.nothing(len(guess.values), guess.right)
    spare = draw(guess.right.shape[2]).to(guess.right)
    third, near = guess.values[:, 2], guess.right[:, BLOCK:]
    squares = (guess.values[:, None, BLOCK:] / scale.double()).square()
    block = torch.linalg.qr(guess.right[:, :BLOCK].mT)[0].mT
    v, image, back = (block[:, :0] for _ in range(3))  # V, J V and JᵀJ V as rows, in units of σ₁
    active = torch.arange(len(block), device=block.device)
    while len(active) and v.shape[1] + BLOCK <= most:
        new = operator.matmul(block.mT) / scale
        v, image = torch.cat((v, block), 1), torch.cat((image, new.mT), 1)
        back = torch.cat((back, (operator.rmatmul(new) / scale).mT), 1)
        wide = image.double()
        square, q = (x.flip(-1)[..., :BLOCK] for x in _small(torch.linalg.eigh, wide @ wide.mT))
        theta, turn = square.clamp(min=0).sqrt(), q.mT.to(v)
        residual = turn @ back - square[..., None].to(v) * (turn @ v)
        size = (residual.double().norm(dim=2) / theta.clamp(min=torch.finfo(v.dtype).eps)).norm(dim=1)
        unit = scale[:, 0].double()
        done = _close(tolerance, theta, size, third / unit[:, 0], v)
        top.values[active, :BLOCK], top.right[active, :BLOCK] = theta * unit, turn @ v
        top.converged[active] = done
        keep = (~done).nonzero()[:, 0]
        if not len(keep):
            break
        active, operator, scale, third, near = active[keep], operator[keep], scale[keep], third[keep], near[keep]
        v, image, back, squares, square = v[keep], image[keep], back[keep], squares[keep], square[keep]
        residual = residual[keep]
        weight = squares / (square[..., None] - squares).clamp(min=1e-3)
        step = residual + (weight.to(v) * (residual @ near.mT)) @ near
        block = orthogonalise(step.mT, v.mT, spare, 2)[0].mT
    return top


def _kept(basis: Tensor, keep: Tensor, columns: int) -> Tensor:
    """The samples of a basis that stay; what is not filled yet is not copied."""
    basis[: len(keep), :columns] = basis[keep, :columns]
    return basis[: len(keep)]


def _within(tolerance: float, theta: Tensor, p: Tensor, rest: Tensor, third: Tensor, like: Tensor) -> Tensor:
    """Whether θ₁ and θ₂ (N, m) of a bidiagonalisation are as near as they should be, (N,) bool."""
    if theta.shape[1] > BLOCK:
        third = third.maximum(theta[:, BLOCK])
    return _close(tolerance, theta, (rest @ p[:, -BLOCK:, :2]).flatten(1).norm(dim=1), third, like.mT)


def _close(tolerance: float, theta: Tensor, residual: Tensor, third: Tensor, like: Tensor) -> Tensor:
    """Whether θ₁ and θ₂ are within `tolerance` of σ₁ and σ₂ relative to σ₂, or within rounding, (N,) bool.

    With r the Frobenius norm of the residuals of both, they are off by no more than r/√2, and than r²/2(θ₂ − σ₃)
    (Parlett 1998, theorem 11.7.1, for the symmetric matrix of J and Jᵀ).
    """
    residual, gap = residual / 2**0.5, theta[:, 1] - third
    error = residual.where(gap <= residual, residual.square() / gap)
    rounding = like.shape[2] ** 0.5 * torch.finfo(like.dtype).eps * theta[:, 0]
    return error <= (tolerance * theta[:, 1]).maximum(rounding)


def orthogonalise(x: Tensor, basis: Tensor, spare: Tensor, passes: int) -> tuple[Tensor, Tensor, Tensor]:
    """X = basis C + Q R, with Q orthogonal to the basis: Q, C, R; columns with nothing left are drawn from `spare`.

    One pass leaves orthogonality to rounding of x, two to rounding of Q; V needs two, and then U no more than one
    (Simon and Zha 2000). What is drawn needs two of its own.
    """
    scale = x.norm(dim=(1, 2))[:, None] * torch.finfo(x.dtype).eps
    along = basis.mT @ x
    x, r = torch.linalg.qr(_less(x, basis, along))
    empty = r.diagonal(dim1=1, dim2=2).abs() <= scale
    drawn = bool(empty.any())
    if drawn:
        x, r = x.where(~empty[:, None], spare), r.where(~empty[..., None], 0)
    coefficients, r = along.double(), r.double()
    for _ in range(3 if drawn else passes - 1):
        along = basis.mT @ x
        coefficients = coefficients + along.double() @ r
        x, upper = torch.linalg.qr(_less(x, basis, along))
        r = upper.double() @ r
    return x, coefficients, r


def _less(x: Tensor, basis: Tensor, along: Tensor) -> Tensor:
    """X − basis C, as a product of rows: several times faster on the CPU than that of columns."""
    return (x.mT - along.mT @ basis.mT).mT


def draw(d: int) -> Tensor:
    """Starting vectors, or those that stand in where nothing is left: (d, BLOCK) float64."""
    return torch.randn(d, BLOCK, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _small(function: Callable[[Tensor], Sequence[Tensor]], matrices: Tensor) -> list[Tensor]:
    """Decompositions of many small matrices."""
    if matrices.is_cuda or len(matrices) < 2 * torch.get_num_threads():
        return list(function(matrices))
    parts = over_threads(function, matrices.chunk(torch.get_num_threads()))
    return [torch.cat(part) for part in zip(*parts, strict=True)]
