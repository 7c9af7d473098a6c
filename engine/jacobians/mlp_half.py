"""The second half of a block: from the residual stream as the MLP meets it to the end of the block (methods §6, §7)."""

import torch
from torch import Tensor

from engine.errors import UserError
from engine.jacobians.mlp import linearise_mlp
from engine.jacobians.norms import linearise_norm
from engine.jacobians.operators import Identity, Operator, Sum, chain
from engine.models.adapters import Block


@torch.no_grad()
def mlp_half(block: Block, stream: Tensor) -> Operator:
    """Jacobian of ``norm(x + MLP(x))`` at N residual streams x that the MLP meets, (N, d, d).

    The norm is the one after the addition, where the architecture has one. No other token takes part, so there is no
    context to choose. Where attention and MLP stand side by side, x is what enters the block, and attention is left
    out.

    Parameters
    ----------
    block : Block
        With all its parts; weights are used in the dtype and on the device of `stream`.
    stream : Tensor, (N, d)

    Raises
    ------
    UserError
        If only the block's heads were read.
    """
    if block.mlp is None:
        raise UserError("Only the heads of this block were read; a Jacobian needs all of its parts.")
    normed, before = linearise_norm(block.mlp_norm, stream)
    out, mlp = linearise_mlp(block.mlp, normed)
    normed, post = linearise_norm(block.mlp_post, out)
    n, d = stream.shape
    scale = None if block.sublayer_scale == 1 else Identity(n, d, stream, block.sublayer_scale)
    whole: Operator = Sum((Identity(n, d, stream), chain(scale, post, mlp, before)))
    _, after = linearise_norm(block.mlp_sum, stream + block.sublayer_scale * normed)
    whole = chain(after, whole)
    return whole if block.residual_scale == 1 else chain(Identity(n, d, stream, block.residual_scale), whole)
