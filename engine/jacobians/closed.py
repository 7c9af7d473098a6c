"""Closed-form Jacobians of a block's components at one token of each sample (methods §6)."""

from typing import Literal

import torch

from engine.errors import UserError
from engine.jacobians.attention import Context, linearise_attention
from engine.jacobians.mlp import linearise_mlp
from engine.jacobians.norms import linearise_norm
from engine.jacobians.operators import Identity, Operator, Sum, chain
from engine.jacobians.state import ResidualState
from engine.models.adapters import Block

Component = Literal["attn", "mlp", "block", "residual"]


@torch.no_grad()
def component_operators(block: Block, state: ResidualState, context: Context) -> dict[Component, Operator]:
    """Jacobians of every component at the chosen token, which share their factors.

    Parameters
    ----------
    block : Block
        With all its parts; weights are used in the dtype and on the device of `state.hidden`.
    state : ResidualState
    context : {"in_context", "isolated"}

    Returns
    -------
    dict of Operator, each (N, d, d)
        ``attn`` and ``mlp`` from their norm before to their norm after, no skip; ``block`` with skips and the norms
        after them; ``residual`` is ``block`` − I.

    Raises
    ------
    UserError
        If only the block's heads were read.
    """
    if block.attention is None or block.mlp is None:
        raise UserError("Only the heads of this block were read; a Jacobian needs all of its parts.")
    x = state.chosen
    out, attn = linearise_attention(block, block.attention, state, context)
    out, post = linearise_norm(block.attn_post, out)
    scale = None if block.sublayer_scale == 1 else Identity(*attn.shape[:2], x, block.sublayer_scale)
    attn, out = chain(scale, post, attn), block.sublayer_scale * out
    stream, attn_sum = (x, None) if block.parallel else linearise_norm(block.attn_sum, x + out)
    normed, before = linearise_norm(block.mlp_norm, stream)
    out_mlp, mlp = linearise_mlp(block.mlp, normed)
    normed, post = linearise_norm(block.mlp_post, out_mlp)
    mlp, normed = chain(scale, post, mlp, before), block.sublayer_scale * normed

    identity = Identity(*attn.shape[:2], x)
    whole: Operator
    residual: Operator
    if block.parallel:
        whole, residual = Sum((identity, attn, mlp)), Sum((attn, mlp))
    else:
        after_attn = chain(attn_sum, Sum((identity, attn)))
        residual = Sum((attn, chain(mlp, after_attn)))
        _, mlp_sum = linearise_norm(block.mlp_sum, stream + normed)
        whole = chain(mlp_sum, Sum((identity, mlp)), after_attn)
        if attn_sum is not None or mlp_sum is not None:
            residual = Sum((whole, Identity(*attn.shape[:2], x, -1.0)))
    if block.residual_scale != 1:
        whole = chain(Identity(*attn.shape[:2], x, block.residual_scale), whole)
        residual = Sum((whole, Identity(*attn.shape[:2], x, -1.0)))
    return {"attn": attn, "mlp": mlp, "block": whole, "residual": residual}
