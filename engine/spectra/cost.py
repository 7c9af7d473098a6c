"""Run time of d×d decompositions on this machine, extrapolated as O(d³) from a small one."""

import time
from functools import lru_cache
from typing import Literal

import torch
from scipy.linalg import schur
from torch import Tensor

Work = Literal["eigenvalues", "complex_eigenvalues", "svd", "schur", "hermitian", "complex_product", "lu"]

SMALL = 384


def seconds(work: Work, d: int, device: str = "cpu") -> float:
    """Predicted seconds for one d×d matrix in fp64; Schur forms always run on the CPU.

    Timed once for each kind of work and device at d = 384, then scaled with d³.
    """
    return _measured(work, "cpu" if work == "schur" else device, torch.get_num_threads()) * (d / SMALL) ** 3


@lru_cache(maxsize=32)
def _measured(work: Work, device: str, threads: int) -> float:
    generator = torch.Generator().manual_seed(0)
    matrix = (torch.randn(SMALL, SMALL, generator=generator, dtype=torch.float64) / SMALL**0.5).to(device)
    matrix = matrix.to(torch.complex128) if work in ("hermitian", "complex_eigenvalues", "complex_product") else matrix
    return min(_once(work, matrix) for _ in range(3))  # the first call also loads libraries


def _once(work: Work, matrix: Tensor) -> float:
    start = time.perf_counter()
    match work:
        case "eigenvalues" | "complex_eigenvalues":
            torch.linalg.eigvals(matrix)
        case "svd":
            torch.linalg.svd(matrix)
        case "hermitian":
            torch.linalg.eigh(matrix @ matrix.mH)
        case "lu":
            torch.linalg.lu_factor(matrix)
        case "schur":
            schur(matrix.numpy())
        case "complex_product":
            matrix @ matrix
    if matrix.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start
