"""The help page “What opens, and what each model can do”, from the tables that the program itself goes by."""

from collections.abc import Iterable, Iterator
from typing import Any

from engine.analyses.base import AnyAnalysis
from engine.analyses.registry import ANALYSES
from engine.models.info import FACTS

LEAD = """\
# What opens, and what each model can do

Eigenscope opens the models of one stack that the transformers library knows. What an analysis needs of a model is
measured when the model opens: its own code runs once on a few tokens, with weights that take no memory. *Can do* and
*Cannot do* stand beside the model's facts, with the reason; `main.py info MODEL` prints them.

## What each analysis needs
"""
FAMILIES = """\
## Architectures with an adapter

The matrices of their heads are read from the checkpoint. *Closed form*: the Jacobians of their blocks come from it,
otherwise from automatic differentiation. What is said here holds for the head that predicts tokens: a checkpoint
without one has no loss.

An architecture that is not in the table, but whose blocks compute what those of one in it do, is read with its adapter;
a small random model of its config decides, and a notice says so. Where it differs in its MLP alone, as mixtures of
experts do (Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, Granite MoE), its heads are read and its Jacobians come from automatic
differentiation.
"""
OTHERS = """\
## Every other architecture

It opens too, and can have whatever it shows when it opens:

{able}

Its Jacobians come from automatic differentiation. What it cannot have, as the matrices of its heads are not known:

{unable}

## What does not open

A model that is an encoder and a decoder (T5, BART, Whisper) is refused, as it has two stacks. A model that reads images
or sound opens, and can have what needs no text. [Models](models.md) says what else is refused, and why.
"""


def page() -> str:
    """The page, in Markdown."""
    needs = [[_linked(analysis), "; ".join(map(FACTS.__getitem__, analysis.needs))] for analysis in ANALYSES.values()]
    able = [f"- {_linked(analysis)}" for analysis in ANALYSES.values() if "heads" not in analysis.needs]
    unable = [f"- {_linked(analysis)}" for analysis in ANALYSES.values() if "heads" in analysis.needs]
    heading = ["Architecture", "`model_type`", "Reads", "Heads", "Closed form", "Can do"]
    parts = (
        LEAD,
        *_table(["Analysis", "Needs"], needs),
        "",
        FAMILIES,
        *_table(heading, _families()),
        "",
        OTHERS.format(able="\n".join(able), unable="\n".join(unable)),
    )
    return "\n".join(parts)


def _families() -> Iterator[list[str]]:
    """A row for each adapter: the types that it is of, and what the library's own class of the first reads."""
    from transformers import CONFIG_MAPPING, MODEL_MAPPING

    from engine.models.adapters import ADAPTERS

    types: dict[type, list[str]] = {}
    for model_type, adapter in ADAPTERS.items():
        types.setdefault(type(adapter), []).append(model_type)
    for cls, names in types.items():
        config = CONFIG_MAPPING[names[0]]
        model: Any = MODEL_MAPPING[config]
        text = model.main_input_name == "input_ids"
        adapter = ADAPTERS[names[0]]
        absent = ({"text"} if not text else set()) | ({"stream"} if not adapter.one_stream else set())
        able = [_linked(analysis) for analysis in ANALYSES.values() if absent.isdisjoint(analysis.needs)]
        yield [
            cls.__name__,
            ", ".join(f"`{name}`" for name in names),
            "text" if text else "images",
            _heads(adapter, config),
            _closed_form(adapter, config),
            "all" if len(able) == len(ANALYSES) else ", ".join(able),
        ]


def _closed_form(adapter: Any, config: Any) -> str:
    """Whether there is one, for the config that the library starts from."""
    from engine.models.config import quiet

    if not adapter.closed_form:
        return "no"
    with quiet():
        return "depends on the config" if adapter.closed_form_refusal(config()) else "yes"


def _heads(adapter: Any, config: Any) -> str:
    """What an adapter declares of its heads, in a few words, for the config that the library starts from."""
    from engine.models.config import quiet

    with quiet():
        text = config().get_text_config()
    parts = [{"layernorm": "LayerNorm", "rmsnorm": "RMSNorm"}[adapter.norm]]
    parts += ["rotary"] if adapter.rotary_class or adapter.interleaved else []
    parts += ["norms on q and k"] if adapter.qk_norm else []
    layers = range(len(getattr(text, "layer_types", None) or ()))
    mixed = not all(adapter.attends(text, layer) for layer in layers)
    parts += ["in some layers"] if mixed else []
    return ", ".join(parts)


def _linked(analysis: AnyAnalysis) -> str:
    return f"[{analysis.title}]({analysis.name}.md)"


def _table(heading: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    """A Markdown table, line by line."""
    yield f"| {' | '.join(heading)} |"
    yield f"|{'---|' * len(heading)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
