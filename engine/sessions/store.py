"""The session on disk: runs, committed units, results, settings of views. All state is read from the files."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal

from engine.errors import UserError
from engine.models.info import ModelInfo
from engine.printable import printable
from engine.request import Request
from engine.sessions import units
from engine.sessions.content import committed_files, remove_parts
from engine.sessions.files import DENIED, commit_folder, is_taken, replace_file, seal, set_aside, unseal, writing
from engine.sessions.lock import SessionLock
from engine.sessions.manifest import DamagedUnit, read_files, read_manifest, with_manifest
from engine.sessions.migrate import HEAD, SCHEMA, migrate, new_head, read_schema
from engine.sessions.provenance import made_how
from engine.sessions.records import KEY, RunRecord, View
from engine.sessions.recovery import SessionGone, keep
from engine.sessions.rooted import Root
from engine.sessions.tree import FolderTree, ZipTree, open_tree

if TYPE_CHECKING:
    import xarray as xr

RESULT = "result.zarr"
DESCRIPTION = "run.json"
_KEY = re.compile(KEY)
Computed = tuple["xr.Dataset", Mapping[str, Any]]
"""A unit that was computed, and what is kept beside it."""
_NOTHING: Mapping[str, Computed] = {}


class Session:
    """One session: a folder, or a zip of one (always read-only).

    Make one with `create` or `open`; it is a context manager. Reading takes no lock, because committed things never
    change. Writing holds the session's lock.

    Attributes
    ----------
    path : Path
    readonly : bool
    notices : tuple of str
        Sentences for the user about how it opened.
    """

    def __init__(
        self, path: Path, tree: FolderTree | ZipTree, lock: SessionLock | None, readonly: bool, notices: tuple[str, ...]
    ) -> None:
        self.path, self.tree, self.readonly, self.notices = path, tree, readonly, notices
        self._lock = lock
        self._read: dict[str, Run] = {}  # descriptions of runs never change

    @classmethod
    def create(cls, path: Path | str) -> "Session":
        """Make a new session folder and open it for writing; UserError if the name is taken or cannot be written."""
        path = Path(path).absolute()
        if is_taken(path):
            raise UserError(f"“{path}” already exists. Open it, or choose another name for the new session.")
        commit_folder(path, [(HEAD, new_head())])
        return cls.open(path)

    @classmethod
    def open(cls, path: Path | str, readonly: bool = False, *, lock: bool = True) -> "Session":
        """Open a session's folder, or a zip of one.

        Parameters
        ----------
        path : Path or str
        readonly : bool
            Take no lock and write nothing.
        lock : bool
            False only in a process that works for the one that holds the lock.

        Raises
        ------
        SessionLocked
            Open for writing elsewhere.
        UserError
            Not a session, damaged, or of a newer schema.
        """
        path = Path(path).absolute()
        tree = open_tree(path)
        held: SessionLock | None = None
        try:
            schema = read_schema(tree, path)
            notices: tuple[str, ...] = ()
            if isinstance(tree, ZipTree):
                readonly = True
                notices = ("This session is read from a zip: unpack it, or save it under a new name, to add runs.",)
            if isinstance(tree, FolderTree) and not readonly and lock:
                try:
                    held = SessionLock(tree.root)
                except OSError as error:
                    if error.errno not in DENIED:
                        with writing(path):
                            raise
                    readonly = True
                    notices = ("The session's folder is read-only: save it under a new name to add runs.",)
            if schema < SCHEMA:
                if readonly or isinstance(tree, ZipTree):
                    raise UserError(
                        f"“{path}” was written by an older Eigenscope and must be brought up to date before it can be "
                        "read: open it for writing once (unpack it first if it is a zip)."
                    )
                migrate(tree, schema)
            if held and isinstance(tree, FolderTree):
                remove_parts(tree.root)
            session = cls(path, tree, held, readonly, notices)
            unreadable = len(session._run_ids()) - len(session.runs())
        except BaseException:
            tree.close()
            if held:
                held.release()
            raise
        if unreadable:
            session.notices += (f"{unreadable} of the runs cannot be read; verify the session to see which files.",)
        return session

    def close(self) -> None:
        """Let go of the lock and the files; what is committed needs no saving."""
        self.tree.close()
        self.readonly = True
        if self._lock:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def root(self) -> Root:
        """The session's folder; UserError for one that may not be written."""
        self.require_writable()
        assert isinstance(self.tree, FolderTree)
        return self.tree.root

    def is_present(self) -> bool:
        """Whether the folder that was opened is still there, and still a session."""
        try:
            with self.root.folder() as folder:
                return folder.kind(HEAD) == "file"
        except OSError as error:  # where nobody may look, nobody can say that it is gone
            return not isinstance(error, FileNotFoundError)

    def require_present(self) -> None:
        """Raise UserError when the session is read-only or gone: it is never made again."""
        if not self.is_present():
            raise SessionGone(self.path)

    def require_writable(self) -> None:
        """Raise UserError when nothing may be written here."""
        if self.readonly:
            raise UserError(
                f"The session “{self.path}” is read-only, so nothing can be added to it. "
                "Save it under a new name first."
            )

    def runs(self) -> "list[Run]":
        """Every run whose description can be read, newest last; `verify` names the others."""
        runs = []
        for run_id in self._run_ids():
            with suppress(UserError):
                runs.append(self._run(run_id))
        return sorted(runs, key=lambda run: (run.created, run.id))

    def run(self, run_id: str) -> "Run":
        """The run of that id; UserError if it is not there or its description is damaged."""
        if run_id not in self._run_ids():
            raise UserError(f"There is no run “{printable(run_id)}” in “{self.path}”.")
        return self._run(run_id)

    def _run(self, run_id: str) -> "Run":
        if run_id not in self._read:
            self._read[run_id] = self._read_run(run_id)
        return self._read[run_id]

    def _read_run(self, run_id: str) -> "Run":
        try:
            data = self.tree.read(f"runs/{run_id}/{DESCRIPTION}")
            unseal(data)
            content = RunRecord.model_validate_json(data, strict=True)
            self.tree.folders(f"runs/{run_id}/units")
            return Run(
                session=self,
                id=run_id,
                created=content.created,
                request=content.request,
                models=content.models,
                plan=content.plan,
                provenance=content.provenance,
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"The run “{run_id}” cannot be read because its description, run.json, is missing or damaged. "
                "Its files are left as they are.",
                repr(error),
            ) from error

    def _run_ids(self) -> list[str]:
        return [name for name in self.tree.folders("runs") if _KEY.fullmatch(name)]

    def new_run(
        self, request: Request, models: Sequence[ModelInfo], plan: Sequence[str], provenance: Mapping[str, Any]
    ) -> "Run":
        """Write down what is about to be done: `plan` holds the units' keys. It is never rewritten."""
        self.require_present()
        if len(set(plan)) < len(plan) or not all(_KEY.fullmatch(key) for key in plan):
            raise ValueError("unit keys must be unique, of letters, digits, - and _")
        now = datetime.now(UTC)
        ids = (f"{now:%Y%m%d-%H%M%S}-{request.analysis}-{token_hex(2)}" for _ in count())
        run_id = next(name for name in ids if not (self.path / "runs" / name).exists())
        run = Run(self, run_id, now.isoformat(), request, tuple(models), tuple(plan), dict(provenance))
        commit_folder(run.path, [(DESCRIPTION, run.description())], self.root)
        return self.run(run_id)

    def save_view(self, name: str, settings: Mapping[str, Any]) -> None:
        """Keep a view's settings."""
        self.require_present()
        if not _KEY.fullmatch(name):
            raise ValueError("view names are of letters, digits, - and _")
        replace_file(self.path / "views" / f"{name}.json", seal({"settings": dict(settings)}), self.root)

    def views(self) -> dict[str, dict[str, Any]]:
        """The settings of all views; one that cannot be read is left out, so that the view opens with its defaults."""
        keys = {}
        for name in self.tree.files("views"):
            if name.endswith(".json"):
                with suppress(OSError, ValueError):
                    data = self.tree.read(f"views/{name}")
                    unseal(data)
                    keys[name.removesuffix(".json")] = View.model_validate_json(data).settings
        return keys

    def save_as(self, path: Path | str) -> "Session":
        """Copy everything committed to a new folder and open that for writing; this one stays as it is."""
        path = Path(path).absolute()
        if is_taken(path):
            raise UserError(f"“{path}” already exists. Choose another name.")
        commit_folder(path, committed_files(self.tree))
        return Session.open(path)


@dataclass(frozen=True)
class Run:
    """One run: the request, and whatever of it is committed.

    `plan` holds the keys of its units in the order in which they are carried out; `created` is UTC in ISO 8601.
    """

    session: Session = field(repr=False, compare=False)
    id: str
    created: str
    request: Request
    models: tuple[ModelInfo, ...]
    plan: tuple[str, ...]
    provenance: dict[str, Any] = field(repr=False, compare=False)

    @property
    def path(self) -> Path:
        return self.session.path / "runs" / self.id

    def description(self) -> bytes:
        """What ``run.json`` holds."""
        content = {
            "created": self.created,
            "request": self.request.model_dump(mode="json"),
            "models": [model.model_dump(mode="json") for model in self.models],
            "plan": list(self.plan),
            "provenance": self.provenance,
        }
        return seal(content)

    @property
    def finished(self) -> bool:
        """The result is committed and all its files are there."""
        try:
            listed = read_manifest(self.session.tree, self._folder(None)).files
        except DamagedUnit:
            return False
        return listed.keys() <= set(self.session.tree.files(self._folder(None)))

    def committed(self) -> set[str]:
        """The keys of the units that are on disk (damaged ones too: `read_unit` finds out)."""
        return set(self.plan) & set(self.session.tree.folders(f"runs/{self.id}/units"))

    def commit_unit(
        self, key: str, ds: "xr.Dataset", meta: Mapping[str, Any], known: "Mapping[str, Computed]" = _NOTHING
    ) -> None:
        """Put one unit on the disk. Once this returns, neither a kill nor a power cut can lose it.

        Parameters
        ----------
        key : str
            One of the plan.
        ds : xarray.Dataset
        meta : mapping
            JSON values: ``seconds``, ``peak_bytes``, ``weights_hash``, ``device``.
        known : mapping
            Units that are committed already, by key: where the session is gone, they are kept with this one.

        Raises
        ------
        SessionGone
            Naming where everything known of the run is kept now.
        UserError
            Read-only session, full disk, already committed. Nothing committed is touched.
        """
        if key not in self.plan:
            raise ValueError(f"{key} is not in the plan of this run")
        try:
            self._commit(key, ds, meta)
        except UserError:
            if self.session.is_present():
                raise
            raise self.rescue({**known, key: (ds, meta)}) from None

    def read_unit(self, key: str) -> "xr.Dataset":
        """A committed unit, each of its files compared with the manifest; DamagedUnit names the first bad one."""
        return self._read(key)

    def unit_meta(self, key: str) -> dict[str, Any]:
        """What was kept beside the unit when it was committed."""
        return read_manifest(self.session.tree, self._folder(key)).meta

    def set_aside(self, key: str | None, why: Literal["damaged", "outdated"] = "damaged") -> None:
        """Move a unit (None: the result) out of the way, so that it is computed again; nothing is deleted."""
        set_aside(self.session.root, self._folder(key), why)

    def commit_result(self, ds: "xr.Dataset", known: "Mapping[str, Computed]" = _NOTHING) -> None:
        """Put the finished Dataset on the disk as ``result.zarr``, with the run's provenance in its attributes.

        `known` and SessionGone are as in `commit_unit`.
        """
        metas = {key: known[key][1] for key in self.plan if key in known}
        for key in self.plan:
            with suppress(DamagedUnit):
                metas[key] = self.unit_meta(key)
        how = {"run": self.id, "created": self.created} | made_how(self.session.tree, self.provenance, metas)
        ds = ds.assign_attrs(how | ds.attrs)
        try:
            self._commit(None, ds, {})
        except UserError:
            if self.session.is_present():
                raise
            raise self.rescue(known, ds) from None

    def rescue(self, known: "Mapping[str, Computed]", result: "xr.Dataset | None" = None) -> SessionGone:
        """Keep what is known of this run, whose session is gone, in a session of its own, where the run can go on.

        Returns
        -------
        SessionGone
            Says where it is.
        """
        folders = {self._folder(key): with_manifest(units.encode(ds), meta) for key, (ds, meta) in known.items()}
        if result is not None:
            folders[self._folder(None)] = with_manifest(units.encode(result), {})
        if not folders:
            return SessionGone(self.session.path)
        described = (f"runs/{self.id}/{DESCRIPTION}", self.description())
        inside = ((f"{folder}/{name}", content) for folder, files in folders.items() for name, content in files)
        return SessionGone(self.session.path, keep(self.session.path, [(HEAD, new_head()), described, *inside]))

    def result(self) -> "xr.Dataset | None":
        """The finished Dataset, checked; None until there is one; DamagedUnit if it has changed since."""
        if RESULT not in self.session.tree.folders(f"runs/{self.id}"):
            return None
        return self._read(None)

    def _folder(self, key: str | None) -> str:
        return f"runs/{self.id}/{RESULT}" if key is None else f"runs/{self.id}/units/{key}"

    def _commit(self, key: str | None, ds: "xr.Dataset", meta: Mapping[str, Any]) -> None:
        root, target = self.session.root, self.session.path / self._folder(key)
        files = with_manifest(units.encode(ds), meta)
        self.session.require_present()
        if target.exists():
            raise UserError(f"“{target}” is already committed, and nothing is ever saved over.")
        commit_folder(target, files, root)

    def _read(self, key: str | None) -> "xr.Dataset":
        folder = self._folder(key)
        return units.decode(read_files(self.session.tree, folder), folder)
