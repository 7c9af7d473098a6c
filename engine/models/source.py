"""From what the user typed to the folder with the files: a built-in model, a folder, or a hub id."""

import difflib
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub as hub
from huggingface_hub import errors

from engine import resources
from engine.errors import UserError, reason
from engine.request import ModelSpec

BUILTIN = ("builtin", "builtin-encoder")
# Nothing else is fetched: no pickles, no code, no second format of the same weights.
SMALL_FILES = [
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
]
WEIGHTS = ["model.safetensors", "model-*.safetensors"]


@dataclass(frozen=True)
class Source:
    """Where a model's files lie. `repo` is the hub id; `revision` is a checkpoint's name or, on the hub, the commit."""

    folder: Path
    revision: str | None
    repo: str | None = None


def resolve(spec: ModelSpec, *, weights: bool) -> Source:
    """Find the files of a model; from the hub, download them (or, without `weights`, only the small ones).

    Raises
    ------
    UserError
        If there is no such folder, checkpoint, hub id or revision, or the hub cannot be reached or refuses.
    """
    folder = local(spec.source)
    if folder is None:
        with hub_errors(spec.source, spec.revision):
            snapshot = hub.snapshot_download(
                spec.source, revision=spec.revision, allow_patterns=SMALL_FILES + (WEIGHTS if weights else [])
            )
        return Source(Path(snapshot), Path(snapshot).name, spec.source)
    names = subfolders(folder)
    if spec.revision is not None:
        if spec.revision not in names:
            raise UserError(f"{spec.source} has no checkpoint {spec.revision}. {suggest(spec.revision, names)}")
        return Source(folder / spec.revision, spec.revision)
    if (folder / "config.json").exists() or not names:
        return Source(folder, None)
    return Source(folder / names[-1], names[-1])


def checkpoints(source: str) -> tuple[str, ...]:
    """List the checkpoints of a built-in model or a folder in step order; the branches and tags of a hub id."""
    folder = local(source)
    return subfolders(folder) if folder is not None else references(source)


def local(source: str) -> Path | None:
    """The folder that `source` names, or None if it can only be a hub id."""
    if source in BUILTIN:
        folder = resources.MODELS / source
        if not folder.is_dir():
            raise UserError(f"The built-in model {source} is missing from this installation. Install Eigenscope again.")
        return folder
    if not source.strip():
        raise UserError("No model was given. Give builtin, builtin-encoder, a folder, or a hub id.")
    folder = reachable(source)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise UserError(f"{source} is a file. Give the folder that holds it, the one with config.json.")
    if source.startswith(("/", ".", "~")) or "\\" in source or source.count("/") > 1:
        beside = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        hint = f"In {folder.parent}: {suggest(folder.name, beside)}" if beside else "Check the path."
        raise UserError(f"There is no folder {source}. {hint}")
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


def subfolders(folder: Path) -> tuple[str, ...]:
    """Names of the subfolders that hold a model, with numbers in their order: step2 before step16."""
    return tuple(sorted((path.parent.name for path in folder.glob("*/config.json")), key=natural))


def natural(name: str) -> list[tuple[int, str]]:
    """Sorting key that reads runs of digits as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def references(repo: str) -> tuple[str, ...]:
    """Branches, then tags, of a hub repository."""
    with hub_errors(repo, None):
        refs = hub.list_repo_refs(repo)
    return tuple(sorted((ref.name for ref in refs.branches), key=natural)) + tuple(
        sorted((ref.name for ref in refs.tags), key=natural)
    )


def suggest(name: str, names: tuple[str, ...] | list[str]) -> str:
    """Near matches of a name, or the first and last of what there is."""
    if not names:
        return "There are none to choose from: leave the revision empty."
    near = difflib.get_close_matches(name, names, n=4)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    shown = ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:4])} … {', '.join(names[-2:])}"
    return f"There is: {shown}."


@contextmanager
def hub_errors(repo: str, revision: str | None) -> Iterator[None]:
    """Turn whatever the hub's client raises into one sentence."""
    page = f"https://huggingface.co/{repo}"
    try:
        yield
    except errors.HFValidationError as error:
        raise UserError(
            f"{repo} is neither a folder here nor a hub id such as EleutherAI/pythia-70m. Check the spelling.",
            str(error),
        ) from error
    except errors.GatedRepoError as error:
        raise UserError(
            f"{repo} is gated. Accept its terms on {page}, then log in with `hf auth login` and open it again.",
            str(error),
        ) from error
    except errors.RevisionNotFoundError as error:
        try:
            hint = suggest(revision or "main", references(repo))
        except UserError:
            hint = f"Its branches and tags are listed on {page}."
        raise UserError(f"{repo} has no revision {revision}. {hint}", str(error)) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"There is no folder {repo} here and no model {repo} on the hub, or it is private. Check the spelling, or "
            "log in with `hf auth login` if it is private.",
            str(error),
        ) from error
    except errors.DisabledRepoError as error:
        raise UserError(f"The hub has disabled {repo}; see {page}. Choose another model.", str(error)) from error
    except errors.NotASafetensorsRepoError as error:
        raise UserError(
            f"{repo} has no safetensors weights, and pickled ones can run code when they are read, so Eigenscope does "
            "not open them. Ask its authors for safetensors, or convert a copy with save_pretrained of transformers.",
            str(error),
        ) from error
    except errors.SafetensorsParsingError as error:
        raise UserError(
            f"The safetensors files of {repo} are damaged on the hub. Choose another.", str(error)
        ) from error
    except errors.HfHubHTTPError as error:
        raise UserError(
            f"The hub refused to serve {repo} (status {error.response.status_code}). Try again later.", str(error)
        ) from error
    except (errors.LocalEntryNotFoundError, errors.HTTPError, ConnectionError, TimeoutError) as error:
        raise UserError(
            f"{repo} is not (wholly) in the local cache and the hub cannot be reached. Connect to the network, or give "
            "a folder or builtin.",
            str(error),
        ) from error
    except (OSError, errors.XetDownloadError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"{repo} could not be downloaded ({why}). Check the network and the free disk space.", repr(error)
        ) from error
