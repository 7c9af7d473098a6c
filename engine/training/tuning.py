"""Fine-tuning a model on the training part of a text, as S1 does: AdamW, linear warm-up and decay."""

import json
import math
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Literal, cast

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto

from engine.data.encoding import encode, encode_all, frame, require_known
from engine.data.ids import given_rows
from engine.data.splits import Split
from engine.data.texts import load_documents
from engine.errors import UserError
from engine.models.checks import CheckedModel, check
from engine.models.config import quiet
from engine.models.memory import release, require
from engine.models.opening import OpenModel, open_model
from engine.request import DataSpec, ModelSpec, Tuning
from engine.sessions.files import writing
from engine.sessions.rooted import Root
from engine.training.job import train
from engine.training.spec import TrainingProgress, TrainingRecord, TrainingSpec, tuning_bytes
from engine.training.windows import Tokens, Windows

Objective = Literal["causal", "masked"]
_AT_ONCE = 256  # documents, whose encodings are much larger than their ids
MEASURED_TOKENS = 1 << 16
"""About how many held-out tokens the loss is measured on: of a large text, the first documents are enough."""


def untuned(spec: ModelSpec) -> ModelSpec:
    """The checkpoint that fine-tuning starts from, as it is opened for that."""
    return spec.model_copy(update={"tuning": None, "seed": None, "dtype": "float32"})


def check_tuning(spec: ModelSpec, data: DataSpec, device: str) -> Objective:
    """Check that `spec` can be fine-tuned on `data` and `device`, and say for which objective its head is made.

    Raises
    ------
    UserError
        No language-model head, no tokenizer, windows longer than the model reads, or not enough memory.
    """
    assert spec.tuning is not None
    start = check(untuned(spec), weights=False)
    objective = _objective(start)
    info, tuning = start.info, spec.tuning
    if isinstance(start.tokenizer, UserError) and not (data.is_ids and objective == "causal"):
        raise start.tokenizer
    if info.context and tuning.length > info.context:
        raise UserError(
            f"Windows of {tuning.length} tokens are longer than {info.label} can read, which is {info.context}; "
            "fine-tune on shorter ones."
        )
    require(tuning_bytes(tuning, info), device, f"Fine-tuning {info.label}")
    return objective


def _objective(start: CheckedModel) -> Objective:
    made_for: dict[Objective, str] = {
        "causal": "MODEL_FOR_CAUSAL_LM_MAPPING",
        "masked": "MODEL_FOR_MASKED_LM_MAPPING",
    }
    architecture = start.architecture
    for objective, name in made_for.items():
        mapping = getattr(modeling_auto, name)
        models = mapping.get(type(architecture.config), ())
        if architecture.model in (models if isinstance(models, tuple) else (models,)):
            return objective
    raise UserError(
        f"{start.info.label} is a {architecture.model.__name__}, which predicts neither next nor masked tokens, so it "
        "cannot be fine-tuned on text; choose a checkpoint with a language-model head."
    )


def tune(
    spec: ModelSpec,
    data: DataSpec,
    seed: int,
    device: str,
    out: Path,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
    *,
    history: bool = False,
    root: Root | None = None,
) -> TrainingRecord:
    """Fine-tune a checkpoint on the training part of a text, or go on with what `out` holds of it.

    The objective is what the model's head is made for. The held-out part is measured at the first and the last step.

    Parameters
    ----------
    spec : ModelSpec
        With `tuning`.
    seed : int
        Of the order of the windows, of masks and dropout, where the spec has no seed of its own.
    out : Path
        Gets the last checkpoint as an ordinary Hugging Face folder, ``step<N>/``, and ``training.json``.
    history : bool
        Keep a checkpoint of the start and of each epoch too.
    root : Root, optional
        The session in which `out` lies; see `train`.

    Raises
    ------
    Cancelled
        After saving the state, so that the same call resumes.
    UserError
        See `check_tuning` and `train`.
    """
    objective = check_tuning(spec, data, device)
    tuning = cast(Tuning, spec.tuning)
    model = open_model(untuned(spec))
    tokenizer = _tokenizer(model, data)
    learnt, held = (_documents(data, tokenizer, model.info.vocab_size, split) for split in ("train", "test"))
    held = held[: 1 + int(np.searchsorted(np.cumsum([len(ids) for ids in held]), MEASURED_TOKENS))]
    ends = frame(tokenizer) if tokenizer is not None else ([], [])
    count = Windows(np.concatenate(learnt), tuning.length, ends).count
    steps = max(1, math.ceil(tuning.epochs * count / tuning.batch))
    epochs = range(1, math.ceil(tuning.epochs)) if history else ()
    training = TrainingSpec(
        objective=objective,
        steps=steps,
        batch=tuning.batch,
        length=tuning.length,
        learning_rate=tuning.learning_rate,
        warmup=round(tuning.warmup * steps),
        decay="linear",
        weight_decay=0.01,
        checkpoints=tuple(sorted({min(steps, math.ceil(epoch * count / tuning.batch)) for epoch in epochs})),
        keep_start=history,
        seed=seed if spec.seed is None else spec.seed,
    )
    module = cast(PreTrainedModel, model.module()).to(device)  # type: ignore[arg-type]
    model.close()
    try:
        with quiet(), writing(out):
            return train(training, module, tokenizer, learnt, out, on_progress, cancelled, held=held, root=root)
    finally:
        del module
        release()


def _tokenizer(model: OpenModel, data: DataSpec) -> PreTrainedTokenizerBase | None:
    """The model's tokenizer; None where it has none and `data` are ids, which need none."""
    try:
        return model.tokenizer()
    except UserError:
        if data.is_ids:
            return None
        raise


def _documents(
    data: DataSpec, tokenizer: PreTrainedTokenizerBase | None, vocab_size: int, split: Split
) -> list[Tokens]:
    """The documents of one split as token ids, each ended as the model was taught."""
    if data.is_ids:
        return [row[row >= 0] for row in given_rows(data, vocab_size, split)]
    assert tokenizer is not None
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    ends = encode(tokenizer, "\n\n") if end is None else [end]
    documents = load_documents(data, split)
    encoded: list[Tokens] = []
    for start in range(0, len(documents), _AT_ONCE):
        texts = [text for text in documents[start : start + _AT_ONCE] if text and not text.isspace()]
        encoded += [np.array([*ids, *ends], dtype=np.int64) for ids in encode_all(tokenizer, texts)]
    for document in encoded:
        require_known(document, vocab_size)
    for special in frame(tokenizer):
        require_known(special, vocab_size)
    return encoded or [np.array(ends, dtype=np.int64)]


def tuning_key(spec: ModelSpec, data: DataSpec, seed: int) -> str:
    """Name a fine-tuned model by what makes it: weights and config it starts from, text, tuning and seed."""
    start = check(untuned(spec), weights=True)
    files = {part.file for tensor in start.stored.values() for part in tensor.parts}
    # A GGUF file is its own config, and how an adapter is merged stands in the identity alone.
    config = start.files.folder / "config.json"
    plain = start.files.gguf is None and start.files.adapter is None
    parts = [
        *((file.name, _hash(file, file.stat().st_mtime_ns)) for file in sorted(files)),
        config.read_text("utf-8") if plain else start.info.identity,
        text_hash(data),
        cast(Tuning, spec.tuning).model_dump_json(),
        seed if spec.seed is None else spec.seed,
    ]
    return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=16)
def _hash(file: Path, _changed: int) -> str:
    hasher = blake2b(digest_size=16)
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            hasher.update(block)
    return hasher.hexdigest()


def text_hash(data: DataSpec) -> str:
    """BLAKE2b of the whole text, or of the token ids of a ``.npy`` file."""
    hasher = blake2b(digest_size=16)
    if data.is_ids:
        hasher.update(given_rows(data, None).tobytes())
    else:
        for text in load_documents(data):
            hasher.update((text or "").encode() + b"\0")
    return hasher.hexdigest()
