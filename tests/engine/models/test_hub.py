"""The hub, without a network: its client raises the library's own exceptions, or finds only its cache."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import httpx2
import huggingface_hub as hub
import pytest
import torch
from huggingface_hub import constants, errors
from huggingface_hub.utils import SafetensorsFileMetadata, SafetensorsRepoMetadata, TensorInfo
from opening_models import copy, pristine

from engine.errors import UserError
from engine.models.checkpoint import read_headers
from engine.models.opening import describe, open_model
from engine.models.source import checkpoints
from engine.request import ModelSpec

REPO = "someone/model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def response(status: int) -> httpx2.Response:
    return httpx2.Response(status, request=httpx2.Request("GET", f"https://huggingface.co/api/models/{REPO}"))


def raising(error: Exception) -> Callable[..., object]:
    def call(*args: object, **kwargs: object) -> object:
        raise error

    return call


def cached(cache: Path, monkeypatch: pytest.MonkeyPatch, keep: Callable[[str], bool] = lambda name: True) -> Path:
    """Put the tiny model into a hub cache as its revision main, and take the network away."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    root = cache / "models--someone--model"
    folder = copy(pristine(), root / "snapshots" / COMMIT)
    for file in folder.iterdir():
        if not keep(file.name):
            file.unlink()
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    return folder


REFUSALS = {
    "gated": (
        errors.GatedRepoError("403", response=response(403)),
        f"{REPO} is gated. Accept its terms on https://huggingface.co/{REPO}, then log in with `hf auth login`",
    ),
    "unknown": (
        errors.RepositoryNotFoundError("404", response=response(404)),
        f"no folder {REPO} here and no model {REPO} on the hub, or it is private. Check the spelling",
    ),
    "disabled": (errors.DisabledRepoError("403", response=response(403)), "has disabled someone/model"),
    "not cached": (
        errors.LocalEntryNotFoundError("no network, no cache"),
        "not (wholly) in the local cache and the hub cannot be reached. Connect to the network",
    ),
    "partly cached": (
        errors.IncompleteSnapshotError("some files are missing", snapshot_path="snapshots/x"),
        "not (wholly) in the local cache",
    ),
    "offline mode": (errors.OfflineModeIsEnabled("HF_HUB_OFFLINE=1"), "the hub cannot be reached"),
    "no connection": (httpx2.ConnectError("name resolution failed"), "the hub cannot be reached"),
    "timeout": (httpx2.ReadTimeout("too slow"), "the hub cannot be reached"),
    "server error": (errors.HfHubHTTPError("503", response=response(503)), "(status 503). Try again later"),
    "full disk": (OSError(28, "No space left on device"), "(No space left on device). Check the network and the free"),
    "broken transfer": (errors.XetDownloadError("hash mismatch"), "(hash mismatch). Check the network"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_way_in_which_the_hub_refuses_has_its_sentence(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, words = REFUSALS[case]
    monkeypatch.setattr(hub, "snapshot_download", raising(error))
    for opening in (describe, open_model):
        with pytest.raises(UserError) as caught:
            opening(ModelSpec(source=REPO))
        assert words in caught.value.message
        assert "\n" not in caught.value.message
        assert "Traceback" not in caught.value.message
        assert caught.value.detail


def test_an_unknown_revision_lists_near_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "snapshot_download", raising(errors.RevisionNotFoundError("404", response=response(404))))
    steps = [SimpleNamespace(name=f"step{step}") for step in (16, 0, 128000, 2)]
    refs = SimpleNamespace(branches=[SimpleNamespace(name="main"), *steps], tags=[SimpleNamespace(name="v1")])
    monkeypatch.setattr(hub, "list_repo_refs", lambda repo: refs)
    with pytest.raises(UserError, match=r"someone/model has no revision step12800\. Did you mean step128000"):
        describe(ModelSpec(source=REPO, revision="step12800"))
    with pytest.raises(UserError, match=r"There is: main, step0, step2, step16, step128000, v1\."):
        describe(ModelSpec(source=REPO, revision="xyz"))
    assert checkpoints(REPO) == ("main", "step0", "step2", "step16", "step128000", "v1")
    monkeypatch.setattr(hub, "list_repo_refs", raising(httpx2.ConnectError("gone")))
    with pytest.raises(UserError, match=r"branches and tags are listed on https://huggingface\.co/someone/model"):
        describe(ModelSpec(source=REPO, revision="xyz"))


def test_something_that_is_neither_folder_nor_id() -> None:
    with pytest.raises(UserError, match="neither a folder here nor a hub id such as"):
        describe(ModelSpec(source="my model"))


def test_a_cached_model_opens_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path, monkeypatch)
    model = open_model(ModelSpec(source=REPO))
    assert (model.info.label, model.info.revision) == (REPO, COMMIT)
    local = open_model(ModelSpec(source=str(pristine())))
    assert model.layer_hash(1) == local.layer_hash(1)
    assert model.info.identity == local.info.identity
    assert describe(ModelSpec(source=REPO, revision=COMMIT)).revision == COMMIT


def test_an_id_that_is_not_cached_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"someone/other is not .* in the local cache and the hub cannot be reached"):
        describe(ModelSpec(source="someone/other"))


def test_weights_that_are_not_cached_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path, monkeypatch, keep=lambda name: name != "model.safetensors")
    for opening in (describe, open_model):
        with pytest.raises(UserError, match=r"not .* in the local cache and the hub cannot be reached"):
            opening(ModelSpec(source=REPO))
    assert open_model(ModelSpec(source=REPO, twin=True)).block(0)


def test_only_safetensors_and_small_files_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def download(repo: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(pristine())

    monkeypatch.setattr(hub, "snapshot_download", download)
    describe(ModelSpec(source=REPO))
    open_model(ModelSpec(source=REPO))
    open_model(ModelSpec(source=REPO, twin=True))
    fetched = [
        [name for name in offered if any(Path(name).match(pattern) for pattern in patterns)]
        for patterns in asked
        for offered in [
            [
                "config.json",
                "tokenizer.json",
                "model.safetensors",
                "model-00001-of-00002.safetensors",
                "pytorch_model.bin",
                "modeling.py",
                "consolidated.safetensors",
                "model.fp16.safetensors",
            ]
        ]
    ]
    small = ["config.json", "tokenizer.json"]
    assert fetched == [small, [*small, "model.safetensors", "model-00001-of-00002.safetensors"], small]


def test_describing_reads_headers_on_the_hub_and_downloads_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy(pristine(), tmp_path / COMMIT)
    (folder / "model.safetensors").unlink()
    stored = read_headers(pristine())
    tensors = {
        key: TensorInfo(dtype=tensor.dtype, shape=list(tensor.shape), data_offsets=tensor.offsets)
        for key, tensor in stored.items()
    }
    metadata = SafetensorsRepoMetadata(
        metadata=None,
        sharded=False,
        weight_map=dict.fromkeys(stored, "model.safetensors"),
        files_metadata={"model.safetensors": SafetensorsFileMetadata(metadata={}, tensors=tensors)},
    )
    monkeypatch.setattr(hub, "snapshot_download", lambda *args, **kwargs: str(folder))
    monkeypatch.setattr(hub, "get_safetensors_metadata", lambda repo, revision: metadata)
    remote, local = describe(ModelSpec(source=REPO)), describe(ModelSpec(source=str(pristine())))
    assert remote.identity == local.identity
    assert remote.n_parameters == local.n_parameters
    assert remote.notices[0] == (
        "Its weights are not on this machine yet: 0.1 MB will be downloaded when a run starts."
    )
    del metadata.files_metadata["model.safetensors"].tensors["transformer.h.1.ln_1.weight"]
    with pytest.raises(UserError, match=r"transformer\.h\.1\.ln_1\.weight is missing"):
        describe(ModelSpec(source=REPO))


def test_a_repository_of_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy(pristine(), tmp_path / COMMIT)
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(hub, "snapshot_download", lambda *args, **kwargs: str(folder))
    monkeypatch.setattr(hub, "get_safetensors_metadata", raising(errors.NotASafetensorsRepoError("only .bin")))
    for opening in (describe, open_model):
        with pytest.raises(UserError, match="no safetensors weights, and pickled ones can run code"):
            opening(ModelSpec(source=REPO))


def test_a_folder_of_that_name_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(pristine(), tmp_path / "someone" / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "snapshot_download", raising(AssertionError("the hub was asked")))
    model = open_model(ModelSpec(source=REPO))
    assert torch.isfinite(model.tensor("transformer.wte.weight")).all()
