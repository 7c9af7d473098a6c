"""Pipes, sockets, devices, folders and broken links in place of a model's files: never waited for, always named."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from opening_models import copy, pristine, refusal, shard
from special_files import a_socket

from engine.errors import UserError
from engine.models.opening import describe, open_model
from engine.models.source import checkpoints
from engine.request import ModelSpec

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no such files there"),
    pytest.mark.timeout(60),
]


SPECIAL: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "socket": a_socket,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),  # zeros without end
}
BROKEN: dict[str, Callable[[Path], None]] = {
    "broken link": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
}
# What is read of a model, and what the library looks for in its folder.
NEEDED = ["config.json", "model.safetensors", "model.safetensors.index.json", "model-00002-of-00003.safetensors"]
TOKENIZER = ["tokenizer.json", "tokenizer_config.json", "spiece.model", "vocab.json", "vocab.txt", "tokenizer.model"]
OTHERS = [
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "additional_chat_templates/a.jinja",
    "trainer_state.json",
    "adapter_config.json",
    "README.md",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy(pristine(), tmp_path / "model")


def put(kind: Callable[[Path], None], folder: Path, name: str) -> None:
    if name.startswith("model"):
        shard(folder)
    if name == "model.safetensors.index.json":
        (folder / name).unlink()
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    kind(file)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", NEEDED + TOKENIZER + OTHERS)
def test_a_special_file_is_named_and_not_read(name: str, kind: str, folder: Path) -> None:
    put(SPECIAL[kind], folder, name)
    message = refusal(folder)
    assert str(folder / name) in message
    assert "a pipe, a socket or a device" in message
    assert refusal(folder, twin=True) == message


@pytest.mark.parametrize("name", NEEDED)
def test_a_folder_in_place_of_what_is_needed_is_named(name: str, folder: Path) -> None:
    put(Path.mkdir, folder, name)
    message = refusal(folder)
    assert str(folder / name) in message
    assert "it is a folder where a file belongs" in message


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("name", NEEDED + TOKENIZER)
def test_a_link_that_leads_nowhere_is_named(name: str, kind: str, folder: Path) -> None:
    """Of a tokenizer it may be a notice, with which the weights can be analysed."""
    if name not in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "tokenizer.json").unlink()
    put(BROKEN[kind], folder, name)
    try:
        sentences = describe(ModelSpec(source=str(folder))).notices
    except UserError as error:
        sentences = (error.message,)
    (sentence,) = sentences
    assert str(folder / name) in sentence
    assert "link" in sentence


@pytest.mark.parametrize("name", TOKENIZER)
def test_without_a_usable_tokenizer_a_model_opens_and_says_why(name: str, folder: Path) -> None:
    if name not in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "tokenizer.json").unlink()
    put(Path.mkdir, folder, name)
    info = describe(ModelSpec(source=str(folder)))
    assert any(str(folder / name) in notice for notice in info.notices)
    with pytest.raises(UserError, match=name):
        open_model(ModelSpec(source=str(folder))).tokenizer()


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "adapter_config.json"])
def test_what_is_not_needed_may_be_a_folder(name: str, folder: Path) -> None:
    put(Path.mkdir, folder, name)
    model = open_model(ModelSpec(source=str(folder)))
    assert model.block(0).heads.w_q.shape
    assert model.tokenizer()("the cat")["input_ids"]
    assert model.module()


def test_links_to_files_are_followed_as_in_the_cache_of_the_hub(folder: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    shard(folder).rename(blobs)
    folder.mkdir()
    for file in blobs.iterdir():
        (folder / file.name).symlink_to(f"../blobs/{file.name}")
    model = open_model(ModelSpec(source=str(folder)))
    assert model.block(0).heads.w_q.shape
    assert model.tokenizer()("the cat")["input_ids"]
    assert model.module()


@pytest.mark.parametrize("kind", SPECIAL)
def test_weights_that_become_a_special_file_while_open(kind: str, folder: Path) -> None:
    model = open_model(ModelSpec(source=str(folder)))
    put(SPECIAL[kind], copy(pristine(), folder.parent / "other"), "config.json")
    (folder / "model.safetensors").unlink()
    (folder.parent / "other" / "config.json").rename(folder / "model.safetensors")
    for attempt in (model.stamp, lambda: model.block(0), model.module):
        with pytest.raises(UserError, match="a pipe, a socket or a device"):
            attempt()


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_special_file_in_place_of_the_folder_or_beside_it(kind: str, folder: Path) -> None:
    SPECIAL[kind](folder.parent / "special")
    assert "is no folder, but a pipe, a socket or a device" in refusal(folder.parent / "special")
    with pytest.raises(UserError, match="is no folder"):
        checkpoints(str(folder.parent / "special"))
    (folder.parent / "training.json").symlink_to("special")
    assert describe(ModelSpec(source=str(folder))).step is None
