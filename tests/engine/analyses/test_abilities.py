"""What is said at opening is true: what a model can have runs, and what it cannot have is refused with that reason."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from run_parts import carried_out, request_of
from subjects import ENTRIES, Workshop, constants
from unadapted_models import MODELS, VOCAB, saved

from engine import events
from engine.analyses.abilities import abilities, described
from engine.analyses.header import Header
from engine.analyses.registry import ANALYSES
from engine.errors import UserError
from engine.models.info import FACTS
from engine.models.opening import describe
from engine.request import DataSpec, ModelSpec, Request
from engine.runs.loop import execute, start

LACKS = {
    "gpt_neo": set(),
    "gpt_neo-reward": {"loss"},
    "bert-ner": {"loss"},
    "bert-pretraining": set(),
    "xlnet": {"blocks", "stream", "attention"},
    "xlm": {"blocks", "stream"},
    "mamba": {"attention"},
    "t5-encoder": {"loss"},
    "vit": {"text"},
}
# Whole runs: the kinds of models, and of what is special about one, for which the path through an analysis differs.
RUNS = [
    *(("gpt_neo", name) for name in ANALYSES if name != "weights"),
    ("albert", "activations"),
    ("albert", "attention"),
    ("albert", "jacobians"),
    ("bert-pretraining", "gradients"),
    ("ctrl", "jacobians"),
    ("openai-gpt", "attention"),
    ("t5-encoder", "attention"),
    ("t5-encoder", "jacobians"),
    ("xlm", "gradients"),
]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with constants():
        shop = Workshop(tmp_path_factory.mktemp("abilities"))
        with shop.session:
            yield shop


def request(workshop: Workshop, name: str, analysis: str, **params: object) -> Request:
    entry = ENTRIES[analysis]
    data = DataSpec(source=str(workshop.text), samples=entry.samples, length=8)
    if analysis == "jacobians":  # a reference Jacobian takes its time
        data = data.model_copy(update={"samples": 3})
        params = {"kappa": False, **params}
    needs = ANALYSES[analysis].needs_data
    wanted = request_of(analysis, saved(name), data=data if needs else None, **{**entry.params, **params})
    if name == "gpt2-upcast":  # of which the library's code runs in float32 alone
        wanted = wanted.model_copy(update={"models": (ModelSpec(source=str(saved(name))),)})
    return wanted


@pytest.mark.parametrize("name", list(LACKS))
def test_what_a_model_lacks(name: str) -> None:
    info = describe(ModelSpec(source=str(saved(name))))
    assert set(info.lacks) - {"heads"} == LACKS[name]
    assert set(info.lacks) <= set(FACTS)
    for reason in info.lacks.values():
        assert reason.endswith(".")
        assert "\n" not in reason
    obstacles = abilities(info)
    assert list(obstacles) == list(ANALYSES)
    for analysis in ANALYSES.values():
        assert bool(obstacles[analysis.name]) == bool(set(analysis.needs) & set(info.lacks))
        assert (obstacles[analysis.name] or analysis.title.lower()) in described(info)


@pytest.mark.parametrize("name", list(MODELS))
def test_what_it_cannot_have_is_refused_with_that_reason_before_a_run_begins(workshop: Workshop, name: str) -> None:
    obstacles = abilities(describe(ModelSpec(source=str(saved(name)))))
    runs = len(workshop.session.runs())
    for analysis, reason in obstacles.items():
        if reason:
            with pytest.raises(UserError) as caught:
                start(workshop.session, request(workshop, name, analysis))
            assert reason in caught.value.message
    assert len(workshop.session.runs()) == runs


@pytest.mark.parametrize(("name", "analysis"), RUNS)
def test_what_it_can_have_runs(workshop: Workshop, name: str, analysis: str) -> None:
    assert abilities(describe(ModelSpec(source=str(saved(name)))))[analysis] == ""
    run = carried_out(workshop.session, request(workshop, name, analysis))
    result = run.result()
    assert result is not None
    values = result[{"weights": "qk_alpha"}.get(analysis, _statistic(analysis))]
    layers = run.models[0].n_layers
    for layer in range(layers):
        assert np.isfinite(values.isel(layer=layer)).any(), f"nothing of layer {layer}"
    if name == "albert" and "sample" in values.dims:  # layers that share their weights still differ
        assert len({values.isel(layer=layer).values.tobytes() for layer in range(layers)}) == layers


def _statistic(analysis: str) -> str:
    return next(
        variable.name
        for variable in ANALYSES[analysis].variables
        if variable.role == "statistic" and "layer" in variable.dims
    )


def test_a_failed_verification_is_a_note(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("made for float32")

    monkeypatch.setattr("engine.analyses.jacobians.compute.errors_at", broken)
    run = carried_out(workshop.session, request(workshop, "gpt2-upcast", "jacobians", verify=True, layers="0"))
    result = run.result()
    assert result is not None
    assert any("made for float32" in note for note in Header.of(result).notes)
    assert np.isnan(result["verified_error"]).all()


def test_library_code_that_runs_in_float32_alone_is_refused_in_float64(workshop: Workshop) -> None:
    wanted = request_of("attention", saved("gpt2-upcast"), data=DataSpec(source=str(workshop.text)))
    with pytest.raises(UserError, match=r"does not run .*float64, RuntimeError.* Choose float32\."):
        start(workshop.session, wanted)


def test_library_code_that_insists_on_float32_is_verified_in_float64(workshop: Workshop) -> None:
    result = carried_out(workshop.session, request(workshop, "gpt2-upcast", "jacobians", verify=True)).result()
    assert result is not None
    assert float(result["verified_error"].max()) < 1e-12


def test_sublayers_that_cannot_be_told_apart_are_left_out_with_a_note(workshop: Workshop) -> None:
    run = carried_out(workshop.session, request(workshop, "mamba", "jacobians", layers="1"))
    result = run.result()
    assert result is not None
    assert any("cannot be told apart" in note for note in Header.of(result).notes), Header.of(result).notes
    assert np.isfinite(result["rho"].sel(component="block")).any()
    assert np.isnan(result["rho"].sel(component="attn")).all()


def test_ids_with_padding_are_read_whatever_the_padding_id_is(workshop: Workshop, tmp_path: Path) -> None:
    from opening_models import copy, edit_config

    ids = np.random.default_rng(0).integers(3, VOCAB - 4, (36, 8))
    ids[::2, 5:] = -1
    np.save(tmp_path / "ids.npy", ids)
    folder = edit_config(copy(saved("gptj"), tmp_path / "model"), pad_token_id=-1)
    for analysis in ("activations", "gradients"):
        data = DataSpec(source=str(tmp_path / "ids.npy"), samples=36, length=8)
        wanted = request_of(analysis, folder, data=data, **ENTRIES[analysis].params | _whole(analysis))
        run = start(workshop.session, wanted)
        seen: list[events.Event] = []
        assert isinstance(execute(workshop.session, run, seen.append, lambda: False), events.Finished), seen[-1]


def _whole(analysis: str) -> dict[str, object]:
    return {"splits": ["all"]} if analysis == "activations" else {}
