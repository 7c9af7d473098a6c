"""The face of the communities analysis: what the registry holds."""

from engine.analyses.base import Analysis, later
from engine.analyses.communities.plan import CommunitiesParams, estimate_bytes, units
from engine.analyses.communities.variables import VARIABLES

COMMUNITIES = Analysis(
    name="communities",
    title="Communities",
    summary="Communities of units whose activations correlate, and whether their boundaries predict amplification.",
    definition=(
        "site attn: the residual stream as attention meets it, with the Jacobian of the whole block; site mlp: as the "
        "MLP meets it, with the Jacobian from there to the end of the block; membership by descending size, fewer than "
        "3 units are degenerate; *_next compares with the same site of the next layer, over units in proper "
        "communities of both"
    ),
    params=CommunitiesParams,
    variables=VARIABLES,
    units=units,
    estimate_bytes=estimate_bytes,
    compute=later("engine.analyses.communities.compute", "Compute"),
    result=later("engine.analyses.communities.result", "result"),
    needs=("text", "blocks", "stream"),
)
