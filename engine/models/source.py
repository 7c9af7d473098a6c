"""From what the user typed to the files of one model: a built-in model, a folder, a GGUF file, or a hub id.

What a folder is stands here alone: one model, its checkpoints, a hub's cache, an adapter, or several models.
"""

import fnmatch
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine import resources
from engine.errors import UserError, reason
from engine.files import read_file
from engine.models.folder import entries, read_json
from engine.models.hub import WEIGHTS, download, natural, references, suggest
from engine.request import ModelSpec

BUILTIN = ("builtin", "builtin-encoder")
GGUF = ".gguf"
ADAPTER = "adapter_config.json"
# What a folder of weights holds: those that are opened, and those whose refusal says why they are not.
HELD = (*WEIGHTS, "*.safetensors", "*.safetensors.index.json", f"*{GGUF}", "*model*.bin", "*.h5", "*.msgpack", "*.pth")
# Names with a number that counts training: the last of them is the end of the training, whoever wrote them.
COUNTED = re.compile(r"step|checkpoint|ckpt|iter|epoch|^\d+$", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """Where a model's files lie.

    `repo` is the hub id; `revision` is a checkpoint's name or, on the hub and in its cache, the commit. `gguf` is the
    one file that holds everything, where the model is one. `adapter` is what is merged into the model in `folder`,
    and `base` what that model was named as.
    """

    folder: Path
    revision: str | None
    repo: str | None = None
    gguf: Path | None = None
    adapter: "Source | None" = None
    base: str | None = None

    @property
    def name(self) -> str:
        """What the model is called where its files lie."""
        return self.repo or (self.gguf or self.folder).name

    @property
    def asked(self) -> "Source":
        """What the user named: the adapter where there is one, else the model itself."""
        return self.adapter or self


def resolve(spec: ModelSpec, *, weights: bool) -> Source:
    """Find the files of a model; from the hub, download them (or, without `weights`, only the small ones).

    Raises
    ------
    UserError
        If there is no such folder, checkpoint, hub id or revision, a folder holds several models and none is named, or
        the hub cannot be reached or refuses.
    """
    source = locate(spec, weights=weights)
    if is_adapter(source):
        return on_base(source, spec, weights=weights)
    if spec.base is not None:
        raise UserError(f"{spec.source} is a model and not an adapter, so it has no base. Leave the base empty.")
    return source


def locate(spec: ModelSpec, *, weights: bool) -> Source:
    """The files that a spec names, be they a model's or an adapter's."""
    path = local(spec.source)
    if path is None:
        snapshot = download(spec.source, spec.revision, weights=weights)
        return Source(snapshot, snapshot.name, spec.source)
    if path.is_file():
        if spec.revision is not None:
            raise UserError(f"{spec.source} is one file and has no revision {spec.revision}. Leave the revision empty.")
        return Source(path.parent, None, gguf=path)
    return within(path, spec.revision)


def is_adapter(source: Source) -> bool:
    """Whether files are an adapter's and nothing else."""
    return source.gguf is None and (source.folder / ADAPTER).is_file() and not is_model(source.folder)


def within(folder: Path, revision: str | None) -> Source:
    """The one model that a folder and perhaps a revision mean."""
    if (folder / "snapshots").is_dir():
        commit = commit_of(folder, revision)
        return replace(within(folder / "snapshots" / commit, None), revision=commit)
    names = members(folder)
    if revision is not None:
        if revision not in names and not described(folder / revision):
            raise UserError(f"{folder} has no checkpoint {revision}. {suggest(revision, names)}")
        return member(folder, revision)
    if holds(folder) or not names:
        return Source(folder, None)
    if len(names) > 1 and not are_one_training(folder, names):
        raise UserError(
            f"{folder} holds several models: {suggest('', names).removeprefix('There is: ')} Nothing says which one is "
            "meant. Give the path of one of them, or its name as the revision."
        )
    return member(folder, names[-1])


def member(folder: Path, name: str) -> Source:
    """A checkpoint's folder, or one GGUF file, inside of a folder."""
    path = folder / name
    return Source(folder, name, gguf=path) if name.lower().endswith(GGUF) else Source(path, name)


def checkpoints(source: str) -> tuple[str, ...]:
    """List the checkpoints of a built-in model or a folder in step order; the branches and tags of a hub id.

    In a hub's cache they are what has been downloaded: by its branch or tag, or by its commit where it has none.
    """
    path = local(source)
    if path is None:
        return references(source)
    if (path / "snapshots").is_dir():
        return tuple(commits(path))
    return members(path) if path.is_dir() else ()


def local(source: str) -> Path | None:
    """The folder or GGUF file that `source` names, or None if it can only be a hub id."""
    if source in BUILTIN:
        folder = resources.MODELS / source
        if not folder.is_dir():
            raise UserError(f"The built-in model {source} is missing from this installation. Install Eigenscope again.")
        return folder
    if not source.strip():
        raise UserError("No model was given. Give builtin, builtin-encoder, a folder, a GGUF file, or a hub id.")
    path = reachable(source)
    gguf = path.suffix.lower() == GGUF
    if path.is_dir() or (gguf and path.is_file()):
        return path
    if path.is_file():
        raise UserError(f"{source} is a file. Give the folder that holds it, the one with config.json, or a GGUF file.")
    if path.is_symlink():
        raise UserError(f"{source} is a link to {path.readlink()}, which is not there. Give the model's own path.")
    if gguf or source.startswith(("/", ".", "~")) or "\\" in source or source.count("/") > 1:
        siblings = path.parent.iterdir() if path.parent.is_dir() else ()
        beside = sorted(entry.name for entry in siblings if entry.is_dir() or entry.suffix.lower() == GGUF)
        hint = f"In {path.parent}: {suggest(path.name, beside)}" if beside else "Check the path."
        raise UserError(f"There is no {'file' if gguf else 'folder'} {source}. {hint}")
    return None


def reachable(source: str) -> Path:
    """`source` as a path.

    Raises
    ------
    UserError
        If the system cannot even look it up, or it is a pipe, a socket or a device.
    """
    try:
        path = Path(source).expanduser()
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"No model can be looked up as {source} ({reason(error)}). Check the path.") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{source} is no folder, but a pipe, a socket or a device. Give the folder with config.json.")
    return path


def members(folder: Path) -> tuple[str, ...]:
    """Names of the models in a folder, with numbers in their order (step2 before step16): subfolders and GGUF files."""
    names = [
        name
        for name in entries(folder)
        if not name.startswith((".", "tmp-"))  # the Trainer's unfinished checkpoints
        and (is_gguf(name) if name.lower().endswith(GGUF) else holds(folder / name))
    ]
    return tuple(sorted(names, key=natural))


def is_gguf(name: str) -> bool:
    """Whether a GGUF file is a model by its name: neither an image projector nor a later part of a split one."""
    part = re.search(r"-(\d{5})-of-\d{5}\.gguf$", name.lower())
    return "mmproj" not in name.lower() and (part is None or int(part[1]) == 1)


def holds(folder: Path) -> bool:
    """Whether a folder is a checkpoint: weights, and a config that names a model, or an adapter."""
    return is_model(folder) or (folder.is_dir() and (folder / ADAPTER).exists())


def is_model(folder: Path) -> bool:
    """Whether a folder holds weights and a config.json with a model type, or one that cannot be read."""
    if not folder.is_dir() or not os.path.lexists(folder / "config.json"):
        return False
    names = [name for name in entries(folder) if not name.startswith("adapter_model")]
    if not any(fnmatch.fnmatch(name, pattern) for name in names for pattern in HELD):
        return False
    config = described(folder)
    return config is None or "model_type" in config


def described(folder: Path) -> Mapping[str, Any] | None:
    """The config of a subfolder, or of the adapter in it; empty without one, None for one that cannot be read."""
    file = next((folder / name for name in ("config.json", ADAPTER) if os.path.lexists(folder / name)), None)
    if file is None:
        return {}
    try:
        return read_json(file)
    except UserError:
        return None


def are_one_training(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether models are one model's checkpoints: names that count alike, and configs of one size."""
    if len({re.sub(r"\d+", "#", name) for name in names}) > 1 or not COUNTED.search(names[0]):
        return False
    configs = [described(folder / name) or {} for name in names]
    return all(
        config.get(key) == value
        for config in configs[1:]
        for key, value in configs[0].items()
        if key in config and (key == "model_type" or (isinstance(value, int) and not key.endswith("_id")))
    )


def commits(cache: Path) -> dict[str, str]:
    """What a hub's cache of one model holds: commits by their branch or tag, and the others by themselves."""
    present = [name for name in entries(cache / "snapshots") if not name.startswith(".")]
    refs = {}
    for file in (cache / "refs").rglob("*"):
        try:
            if file.is_file() and (commit := read_file(file, 1000).decode().strip()) in present:
                refs[file.relative_to(cache / "refs").as_posix()] = commit
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read. Download the model again.", str(error)) from error
    named = {name: refs[name] for name in sorted(refs, key=lambda name: (name != "main", natural(name)))}
    return named | {commit: commit for commit in present if commit not in refs.values()}


def commit_of(cache: Path, revision: str | None) -> str:
    """The commit that a revision means in a hub's cache: a branch, a tag, or (the beginning of) a commit."""
    known = commits(cache)
    if revision is None:
        if "main" in known:
            return known["main"]
        if len(set(known.values())) == 1:
            return next(iter(known.values()))
        what = "several revisions" if known else "no revision"
        raise UserError(f"{cache} holds {what}, and main is not among them. {suggest('', list(known))} Name one.")
    if revision in known:
        return known[revision]
    begun = {commit for commit in known.values() if commit.startswith(revision)}
    if len(begun) == 1:
        return begun.pop()
    raise UserError(f"{cache} has no revision {revision}. {suggest(revision, list(known))}")


def on_base(adapter: Source, spec: ModelSpec, *, weights: bool) -> Source:
    """The model that an adapter is merged into: given, or named in its config."""
    config = described(adapter.folder)
    named = (config or {}).get("base_model_name_or_path")
    base = spec.base or named
    if spec.base is None and isinstance(named, str) and named.startswith(("\\\\", "//")):
        raise UserError(f"{adapter.folder} names {named} as its base, which is on another machine. Give the base.")
    if not isinstance(base, str) or not base.strip():
        raise UserError(
            f"{adapter.folder} holds an adapter, and {ADAPTER} does not name the model that it was made for. Give that "
            "model as the base."
        )
    try:
        files = locate(ModelSpec(source=base, twin=spec.twin), weights=weights)
    except UserError as error:
        raise UserError(
            f"{adapter.folder} holds an adapter for {base}, which cannot be opened. {error.message} Or give the model "
            "as the base.",
            error.detail,
        ) from error
    if is_adapter(files):
        raise UserError(f"{base} is an adapter itself, and one adapter cannot be the base of another. Give its model.")
    return replace(files, adapter=adapter, base=base)
