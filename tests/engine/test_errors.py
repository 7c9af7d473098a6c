"""Whatever escapes becomes one sentence; requests to stop pass."""

import json

import pytest
from tokenizers import Tokenizer

from engine.errors import Cancelled, UserError, boundary, one_sentence


def nested(depth: int) -> int:
    return nested(depth + 1)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "memory ran out"),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deep"),
        ("\ud800".encode, "it holds text that is not valid Unicode"),
        (OSError(36, "File name too long", "x" * 5000), "File name too long"),
        (KeyError(), "KeyError"),
        (ValueError("one: \x1b[2J two.\nthree"), "one: ␛[2J two"),
        (ValueError("\n"), "ValueError"),
        (ValueError("long " * 1000 + "end"), "long long"),
    ],
)
def test_the_reason_is_one_short_printable_line(error: object, words: str) -> None:
    if callable(error):
        with pytest.raises(UnicodeError) as caught:
            error()
        error = caught.value
    assert isinstance(error, Exception)
    sentence = one_sentence(error, "The model cannot be opened", "Choose another.")
    assert sentence.message.startswith(f"The model cannot be opened: {words}")
    assert sentence.message.endswith(". Choose another.")
    assert sentence.message.isprintable()
    assert len(sentence.message) < 300
    assert type(error).__name__ in sentence.detail


def test_a_boundary_lets_sentences_and_requests_to_stop_through() -> None:
    for error in (UserError("Said. Do."), Cancelled(), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)) as caught, boundary("The model cannot be opened"):
            raise error
        assert caught.value is error
    with pytest.raises(UserError, match="nested too deep") as limit, boundary("The model cannot be opened"):
        nested(0)
    assert isinstance(limit.value.__cause__, RecursionError)


def test_a_panic_of_a_library_in_rust_is_a_failure() -> None:
    steps = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    text = json.dumps({"version": "1.0", "added_tokens": [], "normalizer": steps, "model": {"type": "BPE"}})
    with pytest.raises(UserError, match="loaded: Precompiled") as caught, boundary("The tokenizer cannot be loaded"):
        Tokenizer.from_str(text)
    assert not isinstance(caught.value.__cause__, Exception)


def test_a_sentence_can_be_printed_whatever_it_quotes() -> None:
    names = ["\ud800", "\x1b]0;title\x07", "\u202egnp.exe", "\0", "naïve ☃ \u00a0", "x" * 100_000]
    for name in names:
        error = UserError(f"There is no tensor {name} here. Choose another.")
        error.message.encode()
        assert not set(error.message) & set("\x1b\x07\0\u202e\ud800")
        assert error.message.startswith("There is no tensor ")
        assert error.message.endswith(" here. Choose another.")
        assert len(error.message) < 1300
        assert str(error) == error.message
        assert error.__reduce__()[1] == (error.message, "")
    assert UserError(names[4]).message == names[4]
