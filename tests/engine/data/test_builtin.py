"""The built-in text is the same text every time, and it is the standard library's documentation."""

import json
import statistics
import subprocess
import sys
from hashlib import blake2b

from engine.data.builtin import builtin_documents, builtin_text, text_hash


def test_text_is_large_and_real() -> None:
    text = builtin_text()
    assert len(text.encode()) > 1_500_000
    assert len(builtin_documents()) > 500
    for module, thing in ((statistics, "mean"), (json, "dumps")):
        first = getattr(module, thing).__doc__.strip().splitlines()[0]
        assert first in text
    assert 'The "yield" expression' in text or "yield_expression" in text  # a help topic


def test_text_is_the_same_in_another_process() -> None:
    code = "from engine.data.builtin import text_hash; print(text_hash())"
    flags = ["-O", "-X", "utf8=0"]  # neither may change what is read
    other = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == text_hash() == blake2b(builtin_text().encode(), digest_size=16).hexdigest()


def test_no_document_is_empty_and_none_is_a_test_module() -> None:
    assert all(document == document.strip() != "" for document in builtin_documents())
    assert "Regression tests package" not in builtin_text()
