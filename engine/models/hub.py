"""The hub: what is fetched of a model, its revisions, and one sentence for every way in which it refuses."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub as hub
from huggingface_hub import errors

from engine.errors import UserError

# Nothing else is fetched: no pickles, no code, no second format of the same weights.
SMALL_FILES = [
    "config.json",
    "adapter_config.json",
    "adapter_model.safetensors",
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


def download(repo: str, revision: str | None, *, weights: bool) -> Path:
    """The folder in the hub's cache with a revision's small files, and its weights where they are wanted."""
    with hub_errors(repo, revision):
        return Path(
            hub.snapshot_download(repo, revision=revision, allow_patterns=SMALL_FILES + (WEIGHTS if weights else []))
        )


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
            f"{repo} has no safetensors weights, and pickled ones can run code when they are read, so they are not "
            "opened here. Ask its authors for safetensors; of GGUF files, download one with `hf download` and give its "
            "path.",
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
