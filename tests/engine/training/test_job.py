"""The training job learns, measures what it says it measures, and survives cancel and kill bit for bit."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from engine.data.splits import divide
from engine.errors import Cancelled, UserError
from engine.training.job import held_out_loss, train
from engine.training.spec import TrainingProgress, TrainingRecord, TrainingSpec, schedule
from engine.training.windows import Windows, mask, unigram_entropy

WORDS = 24
FRAME = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SHORT = TrainingSpec(
    steps=9, batch=4, length=16, learning_rate=1e-2, warmup=2, checkpoints=(2, 4), held_out=0.2, seed=3
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def words(masked: bool) -> PreTrainedTokenizerFast:
    special = FRAME if masked else ["[UNK]"]
    vocabulary = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(WORDS)), "a"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if not masked:
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict(zip(names, FRAME, strict=True)))


def model(masked: bool = False, dropout: float = 0.1) -> PreTrainedModel:
    torch.manual_seed(0)
    size = WORDS + 1 + (len(FRAME) if masked else 1)
    if masked:
        return BertForMaskedLM(
            BertConfig(
                vocab_size=size,
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=32,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
            )
        )
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=size,
            n_positions=32,
            n_embd=32,
            n_layer=1,
            n_head=2,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def cycles(first: int, n: int = 20) -> list[np.ndarray]:
    """Documents in which each word is followed by the next one: one known token decides all others."""
    rng = np.random.default_rng(0)
    return [first + (rng.integers(WORDS) + np.arange(60)) % WORDS for _ in range(n)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def stop_at(step: int) -> tuple[Callable[[TrainingProgress], None], Callable[[], bool]]:
    seen = [0]
    return lambda progress: seen.append(progress.step), lambda: seen[-1] == step - 1


class Killed(BaseException):
    """Stands for a kill: nothing of the job handles it."""


def kill_at(step: int) -> Callable[[TrainingProgress], None]:
    def on_progress(progress: TrainingProgress) -> None:
        if progress.step == step:
            raise Killed

    return on_progress


@pytest.mark.parametrize("masked", [False, True])
def test_resumed_run_is_the_uninterrupted_run(tmp_path: Path, masked: bool) -> None:
    """With dropout, so that torch's own stream must be resumed too; cancelled once, killed once."""
    spec = SHORT.model_copy(update={"objective": "masked" if masked else "causal"})
    texts, tokenizer = cycles(len(FRAME) if masked else 1), words(masked)
    whole = train(spec, model(masked), tokenizer, texts, tmp_path / "whole")

    out = tmp_path / "parts"
    on_progress, cancelled = stop_at(3)
    with pytest.raises(Cancelled):
        train(spec, model(masked), tokenizer, texts, out, on_progress, cancelled)
    assert [c.step for c in TrainingRecord.model_validate_json((out / "training.json").read_text()).checkpoints] == [
        0,
        2,
    ]
    with pytest.raises(Killed):
        train(spec, model(masked), tokenizer, texts, out, kill_at(7))
    (out / "step9.part").mkdir()  # as a kill in the middle of the last checkpoint leaves it
    (out / "step9.part" / "model.safetensors").write_bytes(b"half")
    parts = train(spec, model(masked), tokenizer, texts, out)

    assert sorted(p.name for p in out.iterdir()) == ["step0", "step2", "step4", "step9", "training.json"]
    for step in (0, 2, 4, 9):
        ours, theirs = weights(out / f"step{step}"), weights(tmp_path / "whole" / f"step{step}")
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert parts.checkpoints == whole.checkpoints
    assert parts.train_loss == whole.train_loss
    assert not torch.equal(*(next(iter(weights(out / f"step{n}").values())) for n in (4, 9)))


def test_causal_model_learns_what_there_is_to_learn(tmp_path: Path) -> None:
    spec = TrainingSpec(steps=100, batch=8, length=16, learning_rate=1e-2, warmup=10, held_out=0.2)
    texts = cycles(1)
    record = train(spec, model(dropout=0.0), words(False), texts, tmp_path / "run")
    first, last = record.checkpoints
    assert record.unigram_entropy == pytest.approx(math.log(WORDS), abs=0.05)
    assert first.held_out_loss == pytest.approx(math.log(WORDS + 2), abs=0.15)
    assert last.held_out_loss < 0.3  # only the seams between documents cannot be told


def test_masked_model_uses_its_context(tmp_path: Path) -> None:
    """Each document repeats one word, so that only the tokens around a mask tell what it hides."""
    spec = TrainingSpec(
        objective="masked", steps=80, batch=8, length=18, learning_rate=1e-2, warmup=5, mask_rate=0.3, held_out=0.4
    )
    texts = [np.full(60, len(FRAME) + i % 6) for i in range(60)]
    record = train(spec, model(True, dropout=0.0), words(True), texts, tmp_path / "run")
    first, last = record.checkpoints
    assert record.unigram_entropy > 1.5
    assert first.held_out_loss > record.unigram_entropy
    assert last.held_out_loss < record.unigram_entropy - 0.3


def test_held_out_loss_is_the_librarys_loss_on_unseen_documents(tmp_path: Path) -> None:
    texts, tokenizer = cycles(1), words(False)
    record = train(SHORT, model(), tokenizer, texts, tmp_path / "run")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "step9").eval()
    learnt, unseen = divide(len(texts), SHORT.held_out, SHORT.seed)
    assert len(unseen) == 4
    assert sorted(learnt + unseen) == list(range(20))
    held = torch.from_numpy(np.concatenate([texts[i] for i in unseen]))
    rows = held[: len(held) // 16 * 16].reshape(-1, 16)
    with torch.no_grad():
        theirs = loaded(rows, labels=rows).loss.item()
    assert record.checkpoints[-1].held_out_loss == pytest.approx(theirs, rel=1e-5)
    assert held_out_loss(SHORT, loaded, tokenizer, texts) == pytest.approx(theirs, rel=1e-5)


def test_checkpoints_are_ordinary_folders_of_the_dtype_asked_for(tmp_path: Path) -> None:
    spec = SHORT.model_copy(update={"dtype": "float16", "steps": 2, "checkpoints": ()})
    trained = model()
    train(spec, trained, words(False), cycles(1), tmp_path / "run")
    folder = tmp_path / "run" / "step2"
    stored = weights(folder)
    assert {t.dtype for t in stored.values()} == {torch.float16}
    assert "lm_head.weight" not in stored  # tied: written once
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for name, tensor in trained.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor.half().float(), rtol=0, atol=0)
    assert AutoTokenizer.from_pretrained(folder)("w3 w0")["input_ids"] == [4, 1]
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"


def test_epochs_cover_every_window_once() -> None:
    windows = Windows(np.arange(1000), 10, ([], []))
    assert windows.count == 99
    starts = np.concatenate([windows.batch(step, 33, seed=1) for step in range(3)])[:, 0]
    assert len(np.unique(starts)) == 99
    assert len(np.unique(starts % 10)) == 1
    again = np.concatenate([windows.batch(step, 33, seed=1) for step in range(3, 6)])[:, 0]
    assert not np.array_equal(starts, again)
    for step in range(200):
        batch = windows.batch(step, 7, seed=2)
        assert (np.diff(batch, axis=1) == 1).all()


def test_masks_are_berts() -> None:
    tokenizer = words(True)
    rows = np.random.default_rng(0).integers(len(FRAME), len(tokenizer), size=(400, 32))
    rows[:, 0], rows[:, -1] = 2, 3
    inputs, labels = mask(rows, tokenizer, 0.15, seed=0, step=5)
    chosen = labels != -100
    assert not chosen[:, [0, -1]].any()
    assert (labels[chosen] == rows[chosen]).all()
    assert (inputs[~chosen] == rows[~chosen]).all()
    assert chosen[:, 1:-1].mean() == pytest.approx(0.15, abs=0.015)
    masked = inputs[chosen] == tokenizer.mask_token_id
    assert masked.mean() == pytest.approx(0.8, abs=0.04)
    assert (inputs[chosen] == rows[chosen]).mean() == pytest.approx(0.1, abs=0.03)
    assert not np.array_equal(mask(rows, tokenizer, 0.15, seed=0, step=6)[1], labels)


def test_schedule_and_entropy_at_known_points() -> None:
    spec = TrainingSpec(steps=110, learning_rate=1.0, warmup=10)
    assert [schedule(spec, s, 110) for s in (0, 9, 10, 60)] == pytest.approx([0.1, 1.0, 1.0, 0.5])
    linear = spec.model_copy(update={"decay": "linear"})
    assert schedule(linear, 85, 110) == pytest.approx(0.25)
    assert unigram_entropy(np.array([5, 5, 7, 9])) == pytest.approx(1.5 * math.log(2))


def test_epochs_or_steps(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="either steps or epochs"):
        TrainingSpec()
    with pytest.raises(ValueError, match="either steps or epochs"):
        TrainingSpec(steps=3, epochs=1)
    spec = TrainingSpec(epochs=0.5, batch=4, length=16, held_out=0.2)
    record = train(spec, model(), words(False), cycles(1), tmp_path / "run")
    assert record.steps == record.step == math.ceil(0.5 * (16 * 60 // 16 - 1) / 4)


def test_misuse_is_told_in_a_sentence(tmp_path: Path) -> None:
    texts, tokenizer = cycles(1), words(False)

    def refused(said: str, spec: TrainingSpec, documents: list[np.ndarray] = texts, out: str = "run") -> None:
        with pytest.raises(UserError, match=said):
            train(spec, model(), tokenizer, documents, tmp_path / out)

    refused("at least two documents", SHORT, texts[:1])
    refused("too few for windows of 16", SHORT, [text[:3] for text in texts])
    refused("has a mask token", SHORT.model_copy(update={"objective": "masked"}))
    refused("Checkpoint 99 lies beyond", SHORT.model_copy(update={"checkpoints": (99,)}))
    refused("no longer finite", SHORT.model_copy(update={"learning_rate": 1e20, "clip": 1e30}), out="diverged")
    with pytest.raises(Killed):
        train(SHORT, model(), tokenizer, texts, tmp_path / "run", kill_at(3))
    refused("other settings or another text", SHORT.model_copy(update={"seed": 4}))
    refused("other settings or another text", SHORT, [text[::-1].copy() for text in texts])
    train(SHORT, model(), tokenizer, texts, tmp_path / "run")
    refused("finished training run", SHORT)
