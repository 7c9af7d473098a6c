"""gpt-oss."""

from collections.abc import Collection
from typing import Any

from engine.models.adapters.llama import Llama, attention_bias, sliding


class GptOss(Llama):
    """As Llama, with a learned sink in each head, sliding windows in every other layer, and experts.

    A sink is one more score of every row of attention, of no token: what it takes, the row lacks.
    """

    family = "gpt_oss"
    closed_form = False
    rotary_class = "gpt_oss.modeling_gpt_oss.GptOssRotaryEmbedding"

    def closed_form_refusal(self, config: Any) -> str | None:
        return "Its heads have learned sinks, and its blocks choose among experts."

    def notices(self, config: Any) -> tuple[str, ...]:
        return ("Each head has a learned sink that takes a part of every row of attention: rows sum to less than one.",)

    def biased(self, config: Any) -> Collection[str]:
        return attention_bias(config)

    def window(self, config: Any, layer: int) -> int | None:
        return sliding(config, layer)
