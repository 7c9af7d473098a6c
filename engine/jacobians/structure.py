"""Which Jacobians are singular whatever the weights and the text, because of how a block is built (methods §6)."""

from engine.jacobians.attention import Context
from engine.jacobians.closed import Component
from engine.models.adapters import Block
from engine.models.adapters.block import Norm


def singular_by_structure(block: Block, context: Context, tokens: int) -> dict[Component, str]:
    """Components whose κ is infinite by proof, each with the reason; others may be regular.

    A LayerNorm subtracts the mean: before a component it takes out the direction of equal numbers (J 1 = 0), after one
    the direction of its inverse gains is never written. A path through fewer dimensions than d has no full rank.

    Parameters
    ----------
    block : Block
        With all its parts.
    context : {"in_context", "isolated"}
    tokens : int
        How many tokens the chosen one sees, itself included.
    """
    attn = _norms(block.attn_norm, block.attn_post, "attention") or _narrow_attention(block, context, tokens)
    mlp = _norms(block.mlp_norm, block.mlp_post, "the MLP") or _narrow_mlp(block)
    reasons: dict[Component, str] = {}
    if attn:
        reasons["attn"] = attn
    if mlp:
        reasons["mlp"] = mlp
    if _centres(block.attn_sum) or _centres(block.mlp_sum):
        reasons["block"] = "the LayerNorm after the sum never writes the direction of its inverse gains"
    # Equal numbers pass attention's norm, the first sum and the MLP's norm: only the skip still carries them.
    plain = block.attn_sum is None and block.mlp_sum is None and block.residual_scale == 1
    if plain and _centres(block.attn_norm) and _centres(block.mlp_norm):
        reasons["residual"] = "the LayerNorms before attention and the MLP take out the direction of equal numbers"
    return reasons


def _centres(norm: Norm | None) -> bool:
    return norm is not None and norm.kind == "layernorm"


def _norms(before: Norm | None, after: Norm | None, name: str) -> str:
    if _centres(before):
        return f"the LayerNorm before {name} takes out the direction of equal numbers"
    if _centres(after):
        return f"the LayerNorm after {name} never writes the direction of its inverse gains"
    return ""


def _narrow_attention(block: Block, context: Context, tokens: int) -> str:
    """The rank of attention (methods eq. 6.20), group by group of heads that share their values.

    The terms of query and key write differences v_τ − v_σ only, m dimensions that all heads of a group share; the term
    of the value is the same for all of them, and adds to the other dimensions once.
    """
    heads = block.heads
    n_heads, _, d = heads.w_q.shape
    written = n_heads * heads.w_o.shape[2]
    if written < d:
        return f"the heads write {written} of {d} dimensions"
    kv_heads, d_value, _ = heads.w_v.shape
    if context == "isolated":
        values = kv_heads * d_value
        return f"the values of a lone token have {values} of {d} dimensions" if values < d else ""
    m = min(tokens - 1, d_value)
    rank = n_heads * m + kv_heads * (d_value - m)
    return f"attention to so few tokens has fewer than {d} dimensions" if rank < d else ""


def _narrow_mlp(block: Block) -> str:
    if block.mlp is None:
        return ""
    inner, d = block.mlp.w_in.shape
    if inner < d and block.mlp.w_gate is None:
        return f"the MLP is {inner} wide, less than {d}"
    return ""
