"""Nothing that was acknowledged is ever lost: killed at any moment, disk full at any step, files damaged."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from session_examples import META, PLAN, Killed, disk_full, example, failing_at, leftovers, small, started

from engine.errors import UserError
from engine.sessions.archive import pack, unpack
from engine.sessions.manifest import DamagedUnit
from engine.sessions.store import Run, Session
from engine.sessions.verify import verify

ROOT = Path(__file__).resolve().parents[3]

KILLS = """
import os, random, select, signal, sys, time
import numpy as np, xarray as xr, zarr.storage, zarr.codecs
from engine.sessions.store import Session

path, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
for _ in range(kills):
    read, write = os.pipe()
    child = os.fork()  # of a process that has imported everything: it spends its life committing, not importing
    if child == 0:
        with Session.open(path) as session:
            run = session.runs()[0]
            for key in run.plan:
                if key not in run.committed():
                    x = np.random.default_rng(int(key)).normal(size=(50, 40))
                    run.commit_unit(key, xr.Dataset({"x": (("a", "b"), x), "y": ("b", x[0])}), {})
                    os.write(write, f"{key} ".encode())
        os._exit(0)
    os.close(write)
    for _ in range(rng.randint(1, 4)):
        select.select([read], [], [], 20)
        print(os.read(read, 100).decode(), end="", flush=True)
    time.sleep(rng.random() * 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while rest := os.read(read, 100):
        print(rest.decode(), end="", flush=True)
    os.close(read)
    print("| ", end="")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="forks, and kills by signal")
def test_every_unit_acknowledged_by_a_killed_process_is_whole(tmp_path: Path) -> None:
    path, kills, seed = tmp_path / "a.eigenscope", 15, random.randrange(10**6)
    session, run = started(path, tuple(str(n) for n in range(400)))
    session.close()
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(path), str(kills), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    rounds = done.stdout.split("|")
    acknowledged = {key for part in rounds for key in part.split()}
    assert len(rounds) == kills + 1
    assert len(acknowledged) >= kills, "each process acknowledged something before it was killed"
    with Session.open(path) as session:
        (run,) = session.runs()
        assert acknowledged <= run.committed(), f"seed {seed}"
        for key in run.committed():
            x = np.random.default_rng(int(key)).normal(size=(50, 40))
            xr.testing.assert_identical(run.read_unit(key), xr.Dataset({"x": (("a", "b"), x), "y": ("b", x[0])}))
    assert not leftovers(path)
    assert verify(path).problems == ()


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not flushed there")
def test_everything_is_on_the_disk_before_the_rename_and_the_rename_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut would show and a kill cannot."""
    session, run = started(tmp_path / "a.eigenscope")
    events: list[int | str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda handle: (fsync(handle), events.append(os.fstat(handle).st_ino)))
    monkeypatch.setattr(os, "rename", lambda *names, **at: (rename(*names, **at), events.append("rename")))
    with session:
        run.commit_unit(PLAN[0], small(0), META)
    unit = run.path / "units" / PLAN[0]
    before, after = events[: events.index("rename")], events[events.index("rename") + 1 :]
    assert {p.stat().st_ino for p in (unit, *unit.rglob("*"))} <= set(before)
    assert run.path.stat().st_ino in before, "the folder of units was made on the way"
    assert after == [unit.parent.stat().st_ino]


WRITES: dict[str, Callable[[Session, Run, Path], object]] = {
    "unit": lambda session, run, target: run.commit_unit(PLAN[1], small(1), META),
    "result": lambda session, run, target: run.commit_result(small(1)),
    "view": lambda session, run, target: session.save_view("v", {"new": 1}),
    "run": lambda session, run, target: session.new_run(run.request, run.models, run.plan, {}),
    "save_as": lambda session, run, target: session.save_as(target).close(),
    "pack": lambda session, run, target: pack(session.path, target),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_full_disk_at_any_step_loses_nothing(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at the first step of writing, then at the second … until there is no such step and the write succeeds."""
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        run.commit_unit(PLAN[0], small(0), META)
        session.save_view("v", {"old": 1})
        for step in count():
            message = ""
            with monkeypatch.context() as patch:
                came = failing_at(patch, step, disk_full)
                try:
                    WRITES[what](session, run, tmp_path / "target")
                except UserError as error:
                    message = error.message
            assert not leftovers(tmp_path)
            xr.testing.assert_identical(run.read_unit(PLAN[0]), small(0))
            assert session.views()["v"] in ({"old": 1}, {"new": 1})
            assert verify(session.path).problems == ()
            if not came():
                assert not message
                break
            assert message.startswith("The disk is full")
            # Where only the last flush failed, all is there: whole, and out of the way for the next step.
            for left in (tmp_path / "target", run.path / "units" / PLAN[1], run.path / "result.zarr"):
                if left.exists():
                    assert left.is_file() or verify(session.path).problems == ()
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
        assert step >= 5


IN_A_NAMESPACE = """
import subprocess, sys, numpy, xarray
from session_examples import INFO, REQUEST
from engine.errors import UserError
from engine.sessions.store import Session
from engine.sessions.verify import verify

disk, path = sys.argv[1], sys.argv[1] + "/a.eigenscope"

def fill(session, run, size):
    done = 0
    try:
        for key in run.plan:
            run.commit_unit(key, xarray.Dataset({"x": ("mode", numpy.random.default_rng(0).normal(size=size))}), {})
            done += 1
    except UserError as error:
        print(error)
    assert len(run.committed()) == done and verify(path).problems == ()
    assert all(run.read_unit(key).x.size == size for key in run.committed())
    print(done)

subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=True)
with Session.create(path) as session:
    fill(session, session.new_run(REQUEST, [INFO], [str(n) for n in range(20)], {}), 30000)
    empty = session.new_run(REQUEST, [INFO], ["a"], {})
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
with Session.open(path) as session:
    print(*session.notices)
    fill(session, session.run(empty.id), 3)
"""


def test_a_disk_that_is_really_full_and_one_that_is_really_read_only(tmp_path: Path) -> None:
    """In a namespace of its own, whose file systems vanish with the process; where a system forbids that, skip."""
    namespace = ["unshare", "--map-root-user", "--mount"]
    able = (
        shutil.which("unshare") and not subprocess.run([*namespace, "mount", "-t", "tmpfs", "none", "/mnt"]).returncode
    )
    if not able:
        pytest.skip("this system lets no test mount a file system of its own")
    done = subprocess.run(
        [*namespace, sys.executable, "-c", IN_A_NAMESPACE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parents[1]}"},
    )
    assert done.stderr == ""
    full, kept, notice, refused, none = done.stdout.splitlines()
    assert full.startswith("The disk is full")
    assert 1 <= int(kept) < 6
    assert notice.startswith("The session's folder is read-only")
    assert "is read-only, so nothing can be added" in refused
    assert none == "0"


@pytest.mark.parametrize("how", ["flip", "truncate", "remove", "extend", "add"])
@pytest.mark.parametrize("file", ["x/c/0", "x/zarr.json", "zarr.json", "manifest.json"])
def test_a_damaged_unit_names_its_file_and_is_computed_again(file: str, how: str, tmp_path: Path) -> None:
    if how == "add":
        file = f"{file}.more"
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        run.commit_unit(PLAN[0], small(0), META)
        run.commit_unit(PLAN[1], small(1), META)
        _damage(run.path / "units" / PLAN[0] / file, how, random.Random(0))
        name = f"runs/{run.id}/units/{PLAN[0]}/{file}"
        with pytest.raises(DamagedUnit) as damage:
            run.read_unit(PLAN[0])
        assert name in damage.value.message
        assert damage.value.file == name
        (problem,) = verify(session.path).problems
        assert problem.startswith(f"The file “{name}” is ")
        with pytest.raises(UserError) as refusal:
            pack(session.path, tmp_path / "a.zip")
        assert name in refusal.value.message
        assert not (tmp_path / "a.zip").exists()

        run.set_aside(PLAN[0])
        assert run.committed() == {PLAN[1]}
        run.commit_unit(PLAN[0], small(0), META)
        xr.testing.assert_identical(run.read_unit(PLAN[0]), small(0))
        assert (run.path / "units" / f"{PLAN[0]}.damaged").is_dir(), "set aside, not deleted"
        run.set_aside(PLAN[0])
        assert (run.path / "units" / f"{PLAN[0]}.damaged1").is_dir()
        assert verify(session.path).problems == ()


def test_a_result_with_a_missing_file_is_not_finished(tmp_path: Path) -> None:
    session, run = started(tmp_path / "a.eigenscope")
    with session:
        run.commit_result(example())
        assert run.finished
        (run.path / "result.zarr" / "absent" / "c" / "0" / "0").unlink()
        assert not run.finished
        with pytest.raises(DamagedUnit):
            run.result()
        run.set_aside(None)
        assert run.result() is None
        run.commit_result(example())
        assert run.finished


def _damage(path: Path, how: str, rng: random.Random) -> None:
    data = path.read_bytes() if path.exists() else b""
    match how:
        case "remove":
            path.unlink()
        case "truncate":
            path.write_bytes(data[: rng.randrange(len(data))])
        case "extend":
            path.write_bytes(data + b"\0")
        case "add":
            path.write_bytes(b"{}")
        case _:
            at, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
            path.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])


class SessionLife(RuleBasedStateMachine):
    """What a session goes through, against a model that remembers which units were acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.acknowledged: set[str] = set()
        self.damaged: set[str] = set()
        self.maybe: set[str] = set()
        self.copies = 0

    @initialize()
    def create(self) -> None:
        self.session, self.run = started(self.folder / "0.eigenscope")

    def _reopen(self, path: Path | None = None) -> None:
        path = path or self.session.path
        self.session.close()
        self.session = Session.open(path)
        (self.run,) = self.session.runs()

    @rule(key=st.sampled_from(PLAN))
    def commit(self, key: str) -> None:
        if key in self.acknowledged | self.maybe | self.damaged:
            with pytest.raises(UserError, match="already committed"):
                self.run.commit_unit(key, small(PLAN.index(key)), META)
        else:
            self.run.commit_unit(key, small(PLAN.index(key)), META)
            self.acknowledged.add(key)

    @rule(key=st.sampled_from(PLAN), step=st.integers(0, 30))
    def killed_while_committing(self, key: str, step: int) -> None:
        if key in self.acknowledged | self.maybe | self.damaged:
            return
        with pytest.MonkeyPatch.context() as patch:
            failing_at(patch, step, Killed)
            try:
                self.run.commit_unit(key, small(PLAN.index(key)), META)
                self.acknowledged.add(key)
            except Killed:
                pass
        if key not in self.acknowledged and key in self.run.committed():
            self.maybe.add(key)  # the rename was done and only the last flush was not
        self._reopen()
        assert not leftovers(self.session.path)

    @rule()
    def reopen(self) -> None:
        self._reopen()

    @precondition(lambda self: self.acknowledged)
    @rule(data=st.data(), how=st.sampled_from(["flip", "truncate", "remove", "extend"]), seed=st.integers(0, 2**20))
    def damage(self, data: st.DataObject, how: str, seed: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.acknowledged)))
        files = sorted(p for p in (self.run.path / "units" / key).rglob("*") if p.is_file())
        rng = random.Random(seed)
        _damage(rng.choice(files), how, rng)
        self.acknowledged.remove(key)
        self.damaged.add(key)

    @precondition(lambda self: self.damaged)
    @rule()
    def resume(self) -> None:
        for key in self.damaged:
            self.run.set_aside(key)
        self.damaged.clear()

    @rule()
    def save_as(self) -> None:
        self.copies += 1
        copy = self.session.save_as(self.folder / f"{self.copies}.eigenscope")
        copy.close()
        self._reopen(copy.path)

    @rule()
    def to_a_colleague(self) -> None:
        self.copies += 1
        target = self.folder / f"{self.copies}.zip"
        if self.damaged:
            with pytest.raises(UserError, match=r"is (damaged|missing)"):
                pack(self.session.path, target)
            assert not target.exists()
        else:
            pack(self.session.path, target)
            unpack(target, self.folder / f"{self.copies}.eigenscope")
            self._reopen(self.folder / f"{self.copies}.eigenscope")

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        if not hasattr(self, "run"):
            return
        assert self.run.committed() == self.acknowledged | self.damaged | self.maybe
        for key in self.acknowledged | self.maybe:
            xr.testing.assert_identical(self.run.read_unit(key), small(PLAN.index(key)))
        for key in self.damaged:
            with pytest.raises(DamagedUnit):
                self.run.read_unit(key)
        assert bool(verify(self.session.path).problems) == bool(self.damaged)

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.close()
        shutil.rmtree(self.folder)


def test_life_of_a_session() -> None:
    run_state_machine_as_test(
        SessionLife, settings=settings(max_examples=15, stateful_step_count=15, deadline=None, database=None)
    )
