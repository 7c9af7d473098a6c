"""How finely each format of stored weights rounds: plain floats, GGUF's blocks, and the formats of quantisers."""

import re

FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Below which share of λ_1 the rounding of the stored weights decides: σ of about 1e-3 σ_1 for bf16, 1e-4 for fp16
# (methods §0), and by the same rule, an eighth of eps, for the others.
FLOORS = {"bfloat16": 1e-6, "float16": 1e-8, "float32": 2e-16, "float64": 8e-34}
SMALL_FLOATS = {"F8_E4M3": 2**-3, "F8_E5M2": 2**-2, "MXFP4": 2**-1, "FP4": 2**-1}
INTEGERS = re.compile(r"^(?:I?Q|TQ|INT|NF)(\d+)")


def format_name(spelled: str) -> str:
    """What a format is called: ``float32`` for safetensors' ``F32``; ``Q4_K``, ``F8_E4M3`` or ``NF4`` as they are."""
    return FLOATS.get(spelled, spelled)


def is_quantised(spelled: str) -> bool:
    """Whether a format rounds more coarsely than 16-bit floats."""
    return spelled not in FLOATS and rounding(spelled) is not None


def rounding(spelled: str) -> float | None:
    """Eps of a format with fewer than 16 bits: the step, as a share of the largest entry that a scale is made for.

    b-bit integers have 2^(b − 1) steps from zero to the largest; small floats have the eps of their mantissa.
    """
    bits = INTEGERS.match(spelled)
    return 2.0 ** (1 - int(bits[1])) if bits else SMALL_FLOATS.get(spelled)


def storage_floor(name: str) -> float:
    """Share of λ_1 = σ_1² below which the rounding of weights stored like this decides (methods §0); NaN if unknown."""
    eps = rounding(name)
    return FLOORS.get(name, float("nan")) if eps is None else (eps / 8) ** 2
