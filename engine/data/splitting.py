"""Where sentences end: Punkt learnt on the text itself, and rules for what Punkt cannot learn (methods §0)."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import regex

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktSentenceTokenizer

# Punkt learns abbreviations, collocations and sentence starters; half a million characters show the common ones.
LEARN_CHARACTERS = 2**19
# Punkt's patterns give up after some seconds, so a long text is handed to it in parts.
_PART = 2**18
_CLOSING = r"[\p{Pe}\p{Pf}\"']*"
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}]"
_SPARSE = r"[\p{Thai}\p{Lao}]"
# What Punkt, made for “.”, “?” and “!” before a space, does not know: the terminators of other scripts (。, ।, ؟, ။ and
# their like); its own ones where no space follows; and the space of Thai and Lao, which have no terminator and put it
# between sentences and clauses, not between words.
_OTHER_SCRIPTS = regex.compile(
    rf"[\p{{STerm}}--[\p{{ASCII}}\u2000-\u206F]]+{_CLOSING}(?!\d)"
    rf"|(?<={_UNSPACED})[.?!]+{_CLOSING}(?={_UNSPACED})"
    rf"|(?<={_SPARSE}{_CLOSING})\s+(?={_SPARSE})",
    regex.VERSION1,
)
# Punkt takes a number before a full stop for an ordinal or part of a collocation; at the end of a line it is neither,
# unless it is all that the line says.
_NUMBER_ENDS = regex.compile(r"(?m)\d\.[\"'”’)\]]*[ \t\r]*$")


@lru_cache(maxsize=2)  # a model, its twin and its checkpoints read the same text, or its two splits in turn
def split_sentences(documents: tuple[str, ...], *, rules: bool = True) -> tuple[str, ...]:
    """The different sentences of `documents`, sorted, their white space made single spaces (Kiss and Strunk 2006).

    Without `rules`, Punkt alone decides.
    """
    from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTrainer

    trainer = PunktTrainer()
    trainer.train("\n\n".join(documents)[:LEARN_CHARACTERS], finalize=True)
    punkt = PunktSentenceTokenizer(trainer.get_params())
    passages = (passage for text in documents for passage in (ruled(text) if rules else [text]))
    found = (" ".join(sentence.split()) for passage in passages for sentence in _punkt_sentences(punkt, passage))
    return tuple(sorted(set(found)))


def ruled(text: str) -> list[str]:
    """A text cut at the ends of sentences that hold whatever Punkt has learnt."""
    ends = [match.end() for match in _OTHER_SCRIPTS.finditer(text)]
    ends += [match.end() for match in _NUMBER_ENDS.finditer(text) if not _alone(text, match.start())]
    borders = sorted({0, *ends, len(text)})
    return [text[start:stop] for start, stop in pairwise(borders)]


def _alone(text: str, at: int) -> bool:
    """Whether the number whose last digit is at `at` begins its line."""
    return text[text.rfind("\n", 0, at) + 1 : at].strip(" \t\r.0123456789") == ""


def _punkt_sentences(punkt: "PunktSentenceTokenizer", text: str) -> Iterator[str]:
    """The sentences of a text, the same whether it is handed over in parts or as a whole."""
    start, size = 0, _PART
    while len(text) - start > size:
        part = text[start : start + size]
        spans = list(punkt.span_tokenize(part))
        # What Punkt says of an end depends on the words around it: the last two sentences are left for the next part.
        if len(spans) > 2:
            yield from (part[first:last] for first, last in spans[:-2])
            start, size = start + spans[-2][0], _PART
        else:
            size *= 2
    yield from punkt.tokenize(text[start:])
