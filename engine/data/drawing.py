"""Which rules samples are drawn by, so that a run of an older version is not finished with other samples."""

from engine.data.documents import is_large
from engine.data.splitting import ruled
from engine.data.texts import read_text
from engine.request import DataSpec

DRAWING = 2
"""Raised whenever the same text and seed may give other samples than before. Runs from before 2 have none written."""


def drawn_anew(spec: DataSpec, *, sentences: bool) -> bool:
    """Whether rules 2 may draw other samples than those before them did: of large texts, and of some sentences."""
    if spec.is_ids or spec.source == "builtin":
        return False
    text = read_text(spec.source)
    return text.blocks or (
        sentences and (is_large(text.documents) or any(len(ruled(document)) > 1 for document in text.documents))
    )
