"""What `make real` does with a model, on a tiny one and without the download."""

from pathlib import Path

import pytest
from opening_models import pristine

from benchmarks import real
from engine.analyses.registry import ANALYSES


def test_every_analysis_has_its_size() -> None:
    assert real.SETTINGS.keys() == ANALYSES.keys()


def test_what_a_run_prints_becomes_a_row_of_the_table(tmp_path: Path) -> None:
    result = real.measured("weights", pristine(), tmp_path / "real.eigenscope", real.SETTINGS["weights"])
    assert result["models"] == [pristine().name]
    shown = real.numbers(result)
    assert 1 <= len(shown) <= real.MOST_NUMBERS
    assert all(float(number.rpartition(" ")[2]) == float(number.rpartition(" ")[2]) for number in shown)


def test_a_run_that_fails_ends_the_table(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="weights failed on"):
        real.measured("weights", tmp_path / "nothing", tmp_path / "real.eigenscope", [])


def test_what_is_downloaded_is_kept(tmp_path: Path) -> None:
    (tmp_path / "kept.gguf").touch()
    assert real.download(tmp_path) == tmp_path / "kept.gguf"
