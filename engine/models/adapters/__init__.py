"""One small adapter per architecture family, found by the config's ``model_type``."""

from typing import Any

from engine.models.adapters.base import Adapter
from engine.models.adapters.bert import Bert, Roberta
from engine.models.adapters.block import AttentionRule, Block, Borrowed, HeadNorm, Heads, Mlp, Norm, Parts, Rotary
from engine.models.adapters.bloom import Bloom, Mpt
from engine.models.adapters.by_structure import adapter_by_structure
from engine.models.adapters.cohere import Cohere, Cohere2
from engine.models.adapters.encoders import (
    Albert,
    Deberta,
    DebertaV2,
    DistilBert,
    Electra,
    MegatronBert,
    RobertaPreLayerNorm,
    XlmRoberta,
    XlmRobertaXl,
)
from engine.models.adapters.falcon import Falcon
from engine.models.adapters.gemma import Gemma2, Gemma3, Gemma3n, Gemma4
from engine.models.adapters.gemma1 import Gemma
from engine.models.adapters.gpt2 import GPT2
from engine.models.adapters.gpt_bigcode import GPTBigCode
from engine.models.adapters.gpt_neo import GPTNeo
from engine.models.adapters.gpt_neox import GPTNeoX
from engine.models.adapters.gpt_oss import GptOss
from engine.models.adapters.gptj import GPTJ, CodeGen
from engine.models.adapters.granite import Granite
from engine.models.adapters.helium import Ernie, Helium
from engine.models.adapters.hybrid import (
    Bamba,
    FalconH1,
    GraniteMoeHybrid,
    Jamba,
    Lfm2,
    Lfm2Moe,
    MiniMax,
    NemotronH,
    OlmoHybrid,
)
from engine.models.adapters.latent import Latent
from engine.models.adapters.llama import Llama, Mistral, Qwen2, Qwen3
from engine.models.adapters.modernbert import ModernBert, ModernBertDecoder
from engine.models.adapters.olmo import Olmo, Olmo2, Olmo3
from engine.models.adapters.opt import OPT
from engine.models.adapters.phi import Persimmon, Phi
from engine.models.adapters.phi3 import Glm, Glm4, Phi3
from engine.models.adapters.qwen3_next import Qwen3_5, Qwen3Next
from engine.models.adapters.smollm3 import Exaone4, SmolLM3
from engine.models.adapters.stablelm import Nemotron, StableLm
from engine.models.adapters.starcoder2 import Starcoder2
from engine.models.adapters.vit import ViT

__all__ = [
    "ADAPTERS",
    "Adapter",
    "AttentionRule",
    "Block",
    "Borrowed",
    "HeadNorm",
    "Heads",
    "Mlp",
    "Norm",
    "Parts",
    "Rotary",
    "adapter_for",
]

ADAPTERS: dict[str, Adapter] = {
    "gpt2": GPT2(),
    "gpt_neox": GPTNeoX(),
    "llama": Llama(),
    "mistral": Mistral(),
    "qwen2": Qwen2(),
    "qwen3": Qwen3(),
    "olmo": Olmo(),
    "olmo2": Olmo2(),
    "olmo3": Olmo3(),
    "gemma2": Gemma2(),
    "gemma3_text": Gemma3(),
    "gemma3": Gemma3(),
    "gemma3n_text": Gemma3n(),
    "gemma3n": Gemma3n(),
    "gemma4_text": Gemma4(),
    "gemma4": Gemma4(),
    "opt": OPT(),
    "starcoder2": Starcoder2(),
    "bert": Bert(),
    "roberta": Roberta(),
    "vit": ViT(),
    "gpt_oss": GptOss(),
    "qwen3_next": Qwen3Next(),
    "qwen3_5_text": Qwen3_5(),
    "qwen3_5": Qwen3_5(),
    "qwen3_5_moe_text": Qwen3_5(),
    "qwen3_5_moe": Qwen3_5(),
    "jamba": Jamba(),
    "bamba": Bamba(),
    "falcon_h1": FalconH1(),
    "granitemoehybrid": GraniteMoeHybrid(),
    "nemotron_h": NemotronH(),
    "lfm2": Lfm2(),
    "lfm2_moe": Lfm2Moe(),
    "olmo_hybrid": OlmoHybrid(),
    "minimax": MiniMax(),
    "deepseek_v2": Latent(),
    "deepseek_v3": Latent(),
    "glm4_moe_lite": Latent(),
    "minicpm3": Latent(),
    "youtu": Latent(),
    "gemma": Gemma(),
    "granite": Granite(),
    "smollm3": SmolLM3(),
    "exaone4": Exaone4(),
    "phi": Phi(),
    "persimmon": Persimmon(),
    "phi3": Phi3(),
    "glm": Glm(),
    "glm4": Glm4(),
    "stablelm": StableLm(),
    "nemotron": Nemotron(),
    "cohere": Cohere(),
    "cohere2": Cohere2(),
    "helium": Helium(),
    "ernie4_5": Ernie(),
    "gptj": GPTJ(),
    "codegen": CodeGen(),
    "gpt_neo": GPTNeo(),
    "gpt_bigcode": GPTBigCode(),
    "falcon": Falcon(),
    "bloom": Bloom(),
    "mpt": Mpt(),
    "xlm-roberta": XlmRoberta(),
    "xlm-roberta-xl": XlmRobertaXl(),
    "roberta-prelayernorm": RobertaPreLayerNorm(),
    "electra": Electra(),
    "megatron-bert": MegatronBert(),
    "distilbert": DistilBert(),
    "albert": Albert(),
    "deberta": Deberta(),
    "deberta-v2": DebertaV2(),
    "modernbert": ModernBert(),
    "modernbert-decoder": ModernBertDecoder(),
}


def adapter_for(config: Any) -> Adapter | None:
    """Return the adapter of a transformers config, or None for an architecture that has none and is like no other."""
    return ADAPTERS.get(config.model_type) or adapter_by_structure(config, ADAPTERS.values())
