"""The attention of every head on one sentence, for the window while a user types."""

import json
from typing import TYPE_CHECKING

from engine.errors import UserError

if TYPE_CHECKING:
    import xarray as xr

    from engine.models.opening import OpenModel

MATRIX_BYTES = 2**28
"""Budget for all layers' matrices, in bytes; longer sentences are cut."""


def attend(model: "OpenModel", text: str) -> "xr.Dataset":
    """The attention matrices of one text, with their spectra and statistics.

    Parameters
    ----------
    model : OpenModel
        Its module stays loaded between calls.
    text : str
        Read with the tokenizer's special tokens, and cut to what the model can read at once.

    Returns
    -------
    Dataset
        ``matrices`` (layer, head, query, key), ``token`` (query), ``eigenvalues`` and ``singular_values`` (layer, head,
        mode), and every statistic of the attention analysis (layer, head). In ``attrs``: ``spectrum``, ``diagonal`` or
        ``general``; ``text``, as far as it was read; ``notes``.

    Raises
    ------
    UserError
        If the text is empty, or the model reads no text or returns no attention matrices.
    """
    import numpy as np

    from engine.analyses.attention.compute import measure_chunk
    from engine.analyses.attention.plan import AttentionParams
    from engine.data.encoding import encode, frame, require_known
    from engine.data.rows import whole_characters

    info = model.info
    if not text.strip():
        raise UserError("There is no text to look at. Type a word or a sentence.")
    tokenizer = model.tokenizer()
    before, after = frame(tokenizer)
    ids = [*before, *encode(tokenizer, whole_characters(text)[0]), *after]
    require_known(ids, info.vocab_size)
    most = int((MATRIX_BYTES / (4 * max(info.n_layers * info.n_heads, 1))) ** 0.5)
    limit = min(most, info.context or most)
    notes = []
    if len(ids) > limit:
        why = "its context" if limit < most else "what can be shown at once"
        notes.append(f"The text has {len(ids)} tokens; the first {limit} are read, which is {why}")
        ids = ids[:limit]
    unit = measure_chunk(model, np.array([ids], dtype=np.int64), 1, AttentionParams(), shown=1)
    if list(np.atleast_1d(unit.attrs["lost"])):
        raise UserError(f"The attention of {info.label} is not finite on this text. Choose float32, or another text.")
    ds = unit.isel(sample=0, shown=0).drop_vars(("sample_text", "tokens"))
    notes.append(
        "Causal attention is triangular, so its eigenvalues are its diagonal, exactly"
        if info.causal
        else "Bidirectional attention: eigenvalues by a general solver; special tokens are among the tokens"
    )
    ds.attrs = {
        "model": info.label,
        "text": str(tokenizer.decode(ids)),
        "spectrum": "diagonal" if info.causal else "general",
        "notes": json.dumps(notes, ensure_ascii=False),
    }
    return ds
