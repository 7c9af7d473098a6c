"""No command dies of a terminal that cannot show a character, and none lets a name steer the terminal."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console
from session_examples import INFO, META, PLAN, REQUEST, small

import main
from engine.cli.follow import Follower
from engine.cli.terminal import PlainTable, line, say, show
from engine.events import Notice, Progress, Started
from engine.sessions.store import Session

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "\x1b[2J[red]x[/red] [/] :smile: \x07\r\u202e [link=http://x]y[/link]"
SHOWN = "␛[2J[red]x[/red] [/] :smile: ␇␍� [link=http://x]y[/link]"


def test_a_name_is_written_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    line(HOSTILE)
    table = PlainTable("model", HOSTILE)
    table.add_row(HOSTILE, "1")
    show(table, 200)
    out = capsys.readouterr().out
    assert out.count(SHOWN) == 3
    assert "\x1b" not in out


@pytest.mark.parametrize("terminal", [False, True])
def test_what_a_run_tells_is_written_as_it_is(terminal: bool) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, color_system=None, width=400)
    with Follower(console) as follower:
        follower(Started("r", "weights", HOSTILE, 0, 1))
        follower(Notice("r", HOSTILE))
        follower(Progress("r", 0, 1, HOSTILE, None))
    say(console, HOSTILE)
    text = stream.getvalue()
    assert text.count(SHOWN) >= 3
    for steering in ("\x1b[2J", "\x07", "\u202e"):
        assert steering not in text


def test_what_is_wrong_with_arguments_is_written_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["verify", f"{HOSTILE}.eigenscope"], ["params", HOSTILE], [HOSTILE], ["run", "--\x1b[2J"]):
        assert main.main(words) == 2
        err = capsys.readouterr().err
        assert "Error:" in err
        assert "\x1b" not in err


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose model and folder have names that no ASCII terminal can show."""
    path = tmp_path_factory.mktemp("made") / "étude–λ.eigenscope"
    with Session.create(path) as store:
        run = store.new_run(REQUEST, [INFO.model_copy(update={"label": f"λ–{HOSTILE}"})], PLAN, {})
        for seed, key in enumerate(PLAN):
            run.commit_unit(key, small(seed), META)
        run.commit_result(xr.Dataset({"x": ("mode", np.zeros(2))}))
    return path


COMMANDS = [["params", "jacobians"], ["verify", "SESSION"], ["export", "SESSION", "--out", "out"], ["verify", "none"]]


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}])
def test_a_terminal_that_shows_ascii_only(environment: dict[str, str], session: Path, tmp_path: Path) -> None:
    """All in one process: what is tested is the stream that it is given."""
    code = (
        f"import main, sys\nfor words in {COMMANDS!r}:\n"
        "    print(main.main([sys.argv[1] if word == 'SESSION' else word for word in words]))"
    )
    done = subprocess.run(
        [sys.executable, *(["-X", "utf8=0"] if "LC_ALL" in environment else []), "-c", code, str(session)],
        cwd=tmp_path,
        env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert "Traceback" not in done.stderr.decode()
    codes = [text for text in done.stdout.decode("ascii").splitlines() if text in ("0", "1", "2")]
    assert codes == ["0", "0", "0", "2"], done.stderr.decode()
    assert b"\x1b" not in done.stdout


def test_warnings_go_to_a_file_and_not_to_the_terminal(tmp_path: Path) -> None:
    code = (
        "import engine.logs, warnings, logging, numpy as np\n"
        "engine.logs.keep_warnings(); engine.logs.keep_warnings()\n"
        "np.log(np.zeros(2)); warnings.warn('of a library'); logging.getLogger('some.library').warning('logged')\n"
    )
    state = os.environ | {"XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=state, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    if sys.platform == "linux":
        text = (tmp_path / "eigenscope" / "log" / "warnings.log").read_text("utf-8")
        assert all(text.count(part) == 1 for part in ("divide by zero", "of a library", "some.library: logged"))


def test_a_log_that_cannot_be_written_is_not_said_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "eigenscope").write_text("in the way")
    code = "import engine.logs, warnings; engine.logs.keep_warnings(); warnings.warn('of a library')"
    state = os.environ | {"XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=state, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
