"""Leading singular triplets of many operators at once, from products with them alone (methods §6)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.jacobians.operators import Operator
from engine.spectra.threads import over_threads

# Starting vectors: with one, a pair of equal singular values would be taken for a single one.
BLOCK = 2
# Approximate singular vectors that `lanczos` keeps when its basis is full, and which tell `davidson` where the spectrum
# lies close together.
NEAR = 12
FULL = 20
# Residual of the first two Ritz vectors, relative to the range of the spectrum, below which these count as those of σ₁
# and σ₂: where one was passed over, a mixture with its neighbour has a larger one.
APART = 7e-4
# A sample whose residual is at most so many times too large is tested at every step.
CLOSE = 4.0
# Factor by which the sum of couplings to approximate vectors is enlarged; errors of up to 1.3 times were seen.
SAFETY = 1.5
# Initial number of rows of the bases of `golub_kahan`; they grow.
ROOM = 32
# Converged samples are carried along until they are this share: leaving copies those that stay.
LEAVING = 0.25


@dataclass(frozen=True)
class Top:
    """The leading singular triplets of each sample.

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
        """The state before the first step: nothing has converged."""
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


def lanczos(operator: Operator, start: Tensor, most: int) -> Top:
    """σ₁ and σ₂ of every sample roughly, by block Lanczos of JᵀJ with thick restarts (Wu and Simon 2000).

    With m columns, JᵀJ V = V T + V′ R Eᵀ for T (m, m). A full basis shrinks to its first Ritz vectors, which costs next
    to no products and keeps bases and their decompositions small. Squares, and bases that are orthogonal to no more
    than rounding of JᵀJ, do where products are rough. Parameters as in `golub_kahan`; converged is what `APART` says.
    """
    n, d_out, d_in = operator.shape
    block, top = start.mT, Top.nothing(n, start)
    v, t = start.new_empty(n, FULL, d_in), top.values.new_zeros(n, FULL, FULL)
    spare, scale = draw(d_in).to(start), start.new_ones(n, 1, 1)
    # Numbers of the samples that are carried along, and how many times too large their residuals were last.
    active, excess = torch.arange(n, device=start.device), top.values.new_full((n,), torch.inf)
    held, most = 0, min(most, d_out, d_in)
    for columns in range(BLOCK, most + 1, BLOCK):
        before, held = held, held + BLOCK
        v[:, before:held] = block.mT
        image = operator.matmul(block).to(v)
        if not before:
            scale = image.abs().amax((1, 2), keepdim=True)
            scale = scale.where(scale > 0, 1)
        back = operator.rmatmul(image / scale).to(v) / scale
        block, above, rest = orthogonalise(back, v[:, :held].mT, spare, 1)
        t[:, :held, before:held] = above
        t[:, before:held, :held] = above.mT
        last, full = columns + BLOCK > most, held == FULL
        # All are tested when the basis is full; before, every other step, and every step those that are close.
        due = excess > 1
        if full:
            due = torch.ones_like(due)
        elif not (last or (columns < FULL and columns % (2 * BLOCK) == 0)):
            due &= excess < CLOSE
        due = due.nonzero()[:, 0]
        if not len(due):
            continue
        square, p = _small(torch.linalg.eigh, t[due, :held, :held])
        least, square, p = square[:, 0], square.flip(1)[:, :NEAR], p.flip(2)[..., :NEAR]
        theta = square.clamp(min=0).sqrt()
        excess[due] = _excess(square, least, _residual(rest[due], p), _rounding(square, v))
        done = (excess[due] <= 1) | last
        kept, number, width = due[done], active[due[done]], theta.shape[1]
        top.converged[number] = excess[kept] <= 1
        top.values[number, :width] = theta[done] * scale[kept, 0].double()
        top.right[number, :width] = p[done].mT.to(v) @ v[kept, :held]
        if full:
            v[:, :NEAR] = p.mT.to(v) @ v
            t[:, :NEAR, :NEAR] = torch.diag_embed(square)
            held = NEAR
        going = excess > 1
        if not going.any():
            break
        if (~going).sum() < LEAVING * len(going):
            continue
        keep = going.nonzero()[:, 0]
        active, operator, scale, excess = active[keep], operator[keep], scale[keep], excess[keep]
        t, block, v = t[keep], block[keep], _kept(v, keep, held)
    return top


def davidson(operator: Operator, guess: Top, tolerance: float, most: int) -> Top:
    """σ₁ and σ₂ of every sample whose guess has converged, by Davidson's method from approximate singular vectors.

    Each step adds to the basis what the residuals of the first two Ritz vectors of JᵀJ show to be missing. Along the
    approximate singular vectors it is (θ² − σⱼ²)⁻¹ times the residual, and θ⁻² times it in the bulk, where σ ≪ θ.
    """
    top, spare = Top.nothing(len(guess.values), guess.right), draw(guess.right.shape[2]).to(guess.right)
    active = guess.converged.nonzero()[:, 0]
    if len(active) < len(guess.values):
        guess, operator = guess[active], operator[active]
    scale = guess.values[:, 0].where(guess.values[:, 0] > 0, 1).to(guess.right)[:, None, None]
    near, squares = guess.right[:, BLOCK:], (guess.values[:, None, BLOCK:] / scale.double()).square()
    block = torch.linalg.qr(guess.right[:, :BLOCK].mT)[0].mT
    v, image, back = (block[:, :0] for _ in range(3))  # V, J V and JᵀJ V as rows, in units of σ₁
    while len(active) and v.shape[1] + BLOCK <= most:
        new = operator.matmul(block.mT) / scale
        v, image = torch.cat((v, block), 1), torch.cat((image, new.mT), 1)
        back = torch.cat((back, (operator.rmatmul(new) / scale).mT), 1)
        wide = image.double()
        square, q = (x.flip(-1)[..., :BLOCK] for x in _small(torch.linalg.eigh, wide @ wide.mT))
        theta, turn = square.clamp(min=0).sqrt(), q.mT.to(v)
        residual = turn @ back - square[..., None].to(v) * (turn @ v)
        along = residual @ near.mT
        done = _nearly(tolerance, square, residual, along, squares)
        unit = scale[:, 0].double()
        top.values[active, :BLOCK], top.right[active, :BLOCK] = theta * unit, turn @ v
        top.converged[active] = done
        keep = (~done).nonzero()[:, 0]
        if not len(keep):
            break
        active, operator, scale, near = active[keep], operator[keep], scale[keep], near[keep]
        v, image, back, squares, square = v[keep], image[keep], back[keep], squares[keep], square[keep]
        weight = squares / (square[..., None] - squares).clamp(min=1e-3)
        step = residual[keep] + (weight.to(v) * along[keep]) @ near
        block = orthogonalise(step.mT, v.mT, spare, 2)[0].mT
    return top


def _nearly(tolerance: float, square: Tensor, residual: Tensor, along: Tensor, squares: Tensor) -> Tensor:
    """Whether θ₁ and θ₂ are within `tolerance` of σ₁ and σ₂ to second order, or within rounding, (N,) bool.

    A coupling α to a singular value σ lifts θ² by 2α²/(g + √(g² + 4α²)), where g = θ² − σ²: the larger eigenvalue of
    ((θ², α), (α, σ²)) less θ². The residual's parts `along` the approximate singular vectors are such couplings; the
    rest, at worst, is one to the last of them.
    """
    alpha = along.double().square()
    rest = (residual.double().square().sum(2) - alpha.sum(2)).clamp(min=0)
    alpha, gap = torch.cat((alpha, rest[..., None]), 2), square[..., None] - torch.cat((squares, squares[..., -1:]), 2)
    gap = gap.clamp(min=0)
    lift = (2 * alpha / (gap + (gap.square() + 4 * alpha).sqrt()).clamp(min=1e-300)).sum(2)
    theta = square.clamp(min=0).sqrt()
    rounding = torch.finfo(residual.dtype).eps * theta[:, :1]
    return (SAFETY * lift <= 2 * theta * (tolerance * theta).maximum(rounding)).all(1)


def _kept(basis: Tensor, keep: Tensor, columns: int) -> Tensor:
    """The samples of a basis that stay; what is not filled yet is not copied."""
    basis[: len(keep), :columns] = basis[keep, :columns]
    return basis[: len(keep)]


def _within(tolerance: float, theta: Tensor, p: Tensor, rest: Tensor, third: Tensor, like: Tensor) -> Tensor:
    """Whether θ₁ and θ₂ (N, m) of a bidiagonalisation are within `tolerance` of σ₁ and σ₂, or rounding, (N,) bool.

    With r the Frobenius norm of the residuals of both, they are off by no more than r/√2, and than r²/2(θ₂ − σ₃)
    (Parlett 1998, theorem 11.7.1, for the symmetric matrix of J and Jᵀ).
    """
    if theta.shape[1] > BLOCK:
        third = third.maximum(theta[:, BLOCK])
    residual, gap = _residual(rest, p), theta[:, 1] - third
    error = residual.where(gap <= residual, residual.square() / gap)
    rounding = _rounding(theta, like.mT)
    return (error <= (tolerance * theta[:, 1]).maximum(rounding)) & (
        _excess(theta, theta[:, -1], residual, rounding) <= 1
    )


def _residual(rest: Tensor, p: Tensor) -> Tensor:
    """Frobenius norm of the residuals of the first two Ritz vectors over √2, (N,), from their last coefficients."""
    return (rest @ p[:, -BLOCK:, :2]).flatten(1).norm(dim=1) / 2**0.5


def _excess(ritz: Tensor, least: Tensor, residual: Tensor, rounding: Tensor) -> Tensor:
    """How many times larger than it may be a residual is against the range of Ritz values `ritz` (N, m), (N,)."""
    allowed = (APART * (ritz[:, 1] - least)).maximum(rounding)
    return residual / allowed.clamp(min=torch.finfo(allowed.dtype).tiny)


def _rounding(ritz: Tensor, rows: Tensor) -> Tensor:
    """What rounding of vectors, the `rows` (N, k, d), makes of the largest of some values (N, m), (N,)."""
    return rows.shape[2] ** 0.5 * torch.finfo(rows.dtype).eps * ritz[:, 0]


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
