"""Every analysis of the registry keeps what all promise; `battery` says what that is."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import battery
import pytest
from subjects import ENTRIES, FAMILIES, LARGE, SMALL, UNEVEN, Subject, Workshop, constants

from engine.analyses.registry import ANALYSES

analyses = pytest.mark.parametrize("name", list(ANALYSES))


def checks(some: tuple[Callable[..., None], ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("check", some, ids=lambda check: check.__name__.removeprefix("check_"))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    gc.freeze()  # running out of memory collects garbage, which takes long among all that is imported
    with constants():
        shop = Workshop(tmp_path_factory.mktemp("battery"))
        with shop.session:
            yield shop
    gc.unfreeze()


def test_every_entry_is_that_of_an_analysis() -> None:
    assert set(ENTRIES) <= set(ANALYSES)


@checks(battery.OF_EACH_FAMILY)
@pytest.mark.parametrize("family", list(FAMILIES))
@analyses
def test_of_each_family(workshop: Workshop, name: str, family: str, check: battery.Check) -> None:
    check(Subject(workshop, name, (family,)))


@checks(battery.OF_EACH_DECODER)
@pytest.mark.parametrize("family", [SMALL, LARGE])
@analyses
def test_of_each_decoder(workshop: Workshop, name: str, family: str, check: battery.Check) -> None:
    check(Subject(workshop, name, (family,)))


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.threads])
def test_threads(workshop: Workshop, name: str) -> None:
    battery.check_threads(Subject(workshop, name, (LARGE,)))


@checks(battery.OF_ONE_MODEL)
@analyses
def test_of_one_model(workshop: Workshop, name: str, check: battery.Check) -> None:
    check(Subject(workshop, name, (SMALL,)))


@pytest.mark.parametrize(
    "name", [name for name, analysis in ANALYSES.items() if any(variable.uneven for variable in analysis.variables)]
)
def test_declared_where_layers_differ(workshop: Workshop, name: str) -> None:
    battery.check_declared(Subject(workshop, name, (UNEVEN,)))


@checks(battery.OF_TWO_MODELS)
@analyses
def test_of_two_models(workshop: Workshop, name: str, check: battery.Check) -> None:
    check(Subject(workshop, name, (SMALL, LARGE)))


@checks(battery.WITH_FILES)
@analyses
def test_with_files(workshop: Workshop, name: str, check: Callable[[Subject, Path], None], tmp_path: Path) -> None:
    check(Subject(workshop, name, (SMALL, LARGE)), tmp_path)


@pytest.mark.parametrize(
    "name", [name for name, one in ANALYSES.items() if any("head" in variable.dims for variable in one.variables)]
)
def test_views_where_layers_differ(workshop: Workshop, name: str, tmp_path: Path) -> None:
    battery.check_viewed(Subject(workshop, name, (SMALL, UNEVEN)), tmp_path)
