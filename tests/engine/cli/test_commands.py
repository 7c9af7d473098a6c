"""The command line: what it computes, what it says, and its exit codes."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from transformers import GPT2Config, GPT2LMHeadModel

import main
from engine import recipes
from engine.analyses.weights.plan import WeightsParams
from engine.sessions.store import Session

ROOT = Path(main.__file__).parent
FEW = ("--set", "null_draws=100")
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    config = GPT2Config(n_layer=3, n_embd=32, n_head=4, vocab_size=32, n_positions=16)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "f.eigenscope"
    assert main.main(["run", "weights", "--model", str(model), *FEW, "--out", str(out)]) == 0
    return out


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Call]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


def only_result(session: Path) -> xr.Dataset:
    (found,) = session.glob("runs/*/result.zarr")
    return xr.open_zarr(found).load()


def process(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "main.py"), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_run_in_a_process_of_its_own_gives_json_that_is_the_result(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.eigenscope"
    running = process("run", "weights", "--model", model, "--twin", *FEW, "--seed", 3, "--out", out, "--json")
    stdout, stderr = running.communicate(timeout=120)
    assert running.returncode == 0, stderr
    told = json.loads(stdout)
    result = only_result(out)
    assert told["models"] == ["tiny", "tiny (random twin)"] == list(result.model.values)
    assert told["analysis"] == "weights"
    assert Path(told["result"]) == next(out.glob("runs/*/result.zarr"))
    leading = told["variables"]["leading"]
    assert leading["dims"] == ["model", "layer", "head"]
    np.testing.assert_array_equal(leading["values"], result.leading.values)
    assert "3/8" in stderr or "3/7" in stderr, "progress goes to standard error, a line for each unit"

    # The numbers are right: against numpy on the weights that the library reads.
    attention = GPT2LMHeadModel.from_pretrained(model).transformer.h[1].attn.c_attn.weight.detach().double().numpy()
    w_q, w_k = attention[:, 16:24], attention[:, 48:56]
    assert leading["values"][0][1][2] == pytest.approx(np.linalg.norm(w_q @ w_k.T, 2) ** 2, rel=1e-5)


def test_a_table_and_where_the_result_lies(call: Call, model: Path, tmp_path: Path) -> None:
    code, out, err = call("run", "weights", "--model", model, *FEW, "--out", "t.eigenscope")
    assert code == 0, err
    result = only_result(tmp_path / "t.eigenscope")
    row = next(line for line in out.splitlines() if re.match(r"tiny\s+2\s", line)).split()
    assert float(row[2]) == pytest.approx(float(result.leading.isel(model=0, layer=2).mean()), rel=1e-3)
    assert str(next((tmp_path / "t.eigenscope").glob("runs/*/result.zarr"))) in out


def test_ctrl_c_leaves_a_run_that_resumes_to_the_same_result(call: Call, model: Path, tmp_path: Path) -> None:
    options = ("run", "weights", "--model", model, "--set", "null_draws=20000", "--seed", 5, "--out")
    out = tmp_path / "c.eigenscope"
    running = process(*options, out)
    assert running.stderr is not None
    seen = []
    for line in running.stderr:
        seen.append(line)
        if line.startswith("1/"):
            running.send_signal(signal.SIGINT)
            break
    _, rest = running.communicate(timeout=60)
    assert running.returncode == 130, "".join(seen) + rest
    assert "Cancelled" in rest
    assert f"python main.py resume {out}" in rest
    assert "Traceback" not in rest
    with Session.open(out) as session:
        (run,) = session.runs()
        assert 0 < len(run.committed()) < len(run.plan)

    assert call("resume", out)[0] == 0
    assert call(*options, tmp_path / "whole.eigenscope")[0] == 0
    resumed, whole = only_result(out), only_result(tmp_path / "whole.eigenscope")
    assert resumed.drop_attrs().identical(whole.drop_attrs())


def test_the_recipe_runs_on_what_comes_with_the_program(call: Call, tmp_path: Path) -> None:
    code, out, err = call("run", "--recipe", "first-light", "--json")
    assert code == 0, err
    result = only_result(tmp_path / "first-light.eigenscope")
    assert list(result.model.values) == ["builtin", "builtin (random twin)"]
    outside = result.outside_law.sum(("layer", "head"))
    assert int(outside[0]) > 5 * int(outside[1]), "training leaves the null, chance does not"
    assert json.loads(out)["models"] == ["builtin", "builtin (random twin)"]


def test_a_second_run_goes_into_the_same_session(call: Call, model: Path) -> None:
    for _ in range(2):
        assert call("run", "weights", "--model", model, *FEW, "--out", "two.eigenscope")[0] == 0
    with Session.open("two.eigenscope") as session:
        assert len(session.runs()) == 2
        code, _, err = call("run", "weights", "--model", model, *FEW, "--out", "two.eigenscope")
    assert code == 1
    assert "already open" in err


@pytest.mark.parametrize("readable", [0, 1])
def test_runs_that_cannot_be_read_are_not_passed_over(
    call: Call, finished: Path, tmp_path: Path, readable: int
) -> None:
    session = Path(shutil.copytree(finished, tmp_path / "s.eigenscope"))
    (run,) = (session / "runs").iterdir()
    damaged = Path(shutil.copytree(run, run.with_name("damaged"))) if readable else run
    (damaged / "run.json").write_text("{}")
    code, _, errors = call("resume", session)
    assert code == 1
    assert "1 of the runs cannot be read" in errors
    assert "no run in" not in errors
    code, _, errors = call("export", session, "--out", tmp_path / "out")
    assert code == 1 - readable
    assert ("1 of the runs cannot be read" in errors) != bool(readable)


@pytest.mark.parametrize("name", ["x" * 5000, "/".join(["y" * 200] * 40), "\udcffx", "\x1b[2J", ".", "/"])
def test_any_name_ends_in_one_sentence(call: Call, finished: Path, tmp_path: Path, name: str) -> None:
    assert call("pack", finished, tmp_path / "s.zip")[0] == 0
    commands = [
        ("run", "weights", "--model", name, "--out", tmp_path / "o"),
        ("info", name),
        ("verify", name),
        ("resume", name),
        ("pack", name),
        ("pack", finished, name),
        ("unpack", tmp_path / "s.zip", name),
        ("run", "weights", "--model", "builtin", "--set", "null_draws=1", "--out", name),
    ]
    for command in commands:
        code, _, errors = call(*command)
        assert code in (0, 1, 2)
        assert "Unexpected error" not in errors
        assert "\x1b" not in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_behind_standard_output_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, ROOT / "main.py", "params", "weights"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 1
    assert "The disk is full" in ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="the current folder cannot be removed there")
def test_a_current_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    (gone := tmp_path / "gone").mkdir()
    command = f"rmdir {gone} && exec {sys.executable} {ROOT / 'main.py'} info builtin"
    ended = subprocess.run(["sh", "-c", command], cwd=gone, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("eigenscope: The folder that this was started in is gone")


def test_resume_of_a_finished_session_changes_nothing(call: Call, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*")}
    code, out, err = call("resume", finished)
    assert (code, out) == (0, "")
    assert "already there" in err
    assert before == {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*")}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "wieghts", "--out", "x.eigenscope"], "There is no analysis called “wieghts”.*weights"),
        (["run", "weights"], "run ANALYSIS --model MODEL --out"),
        (["run", "--out", "x.eigenscope"], "run ANALYSIS --model MODEL --out"),
        (["run", "weights", "--set", "null_drws=3", "--out", "x.eigenscope"], "did you mean “null_draws”"),
        (["run", "weights", "--set", "null_draws=3", "--out", "x.eigenscope"], "“null_draws” .*'3' was given"),
        (["run", "weights", "--set", "null_draws", "--out", "x.eigenscope"], "takes name=value"),
        (["run", "weights", "--set", "offset=[1", "--out", "x.eigenscope"], "is not JSON"),
        (["run", "weights", "--samples", "9", "--out", "x.eigenscope"], "reads no text"),
        (["run", "weights", "--seed", "-1", "--out", "x.eigenscope"], "--seed"),
        (["run", "weights", "--device", "tpu", "--out", "x.eigenscope"], "--device"),
        (["run", "--recipe", "second-light"], "first-light"),
        (["run", "weights", "--recipe", "first-light"], "whole request"),
        (["resume", "nothing.eigenscope"], "does not exist"),
        (["params", "wieghts"], "There is no analysis called"),
        (["export", "."], "--out"),
        (["paint"], "paint"),
    ],
)
def test_unusable_arguments_exit_with_2(call: Call, tmp_path: Path, words: list[str], says: str) -> None:
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert re.search(says, err)
    assert "Traceback" not in err
    assert not (tmp_path / "x.eigenscope").exists()


def test_failures_exit_with_1_and_one_line(call: Call, tmp_path: Path, model: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain").write_text("not a session")
    for words in (
        ["run", "weights", "--model", tmp_path / "empty", "--out", "x.eigenscope"],
        ["run", "weights", "--model", model, "--out", "plain"],
        ["resume", "empty"],
        ["verify", "plain"],
        ["export", "empty", "--out", "o"],
    ):
        code, out, err = call(*words)
        assert (code, out) == (1, "")
        assert err.startswith("eigenscope: ")
        first, *more = err.rstrip("\n").split("\n")
        assert all(line.startswith("Details: ") for line in more)
        assert first.endswith(".")


def test_what_should_not_happen_is_one_line_and_a_file(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("engine.doctor.examine", broken)
    code, _, err = call("doctor")
    assert code == 1
    assert "ZeroDivisionError: division by zero" in err.splitlines()[0]
    assert "Traceback" not in err
    assert "in broken" in Path(err.splitlines()[1].removeprefix("Details: ")).read_text()


def test_verify_finds_a_flipped_bit_and_resume_mends_it(call: Call, model: Path) -> None:
    assert call("run", "weights", "--model", model, *FEW, "--out", "v.eigenscope")[0] == 0
    before = only_result(Path("v.eigenscope"))
    assert call("verify", "v.eigenscope")[0] == 0
    chunk = max(Path("v.eigenscope").glob("runs/*/units/*layer-001/*/c/*/*"), key=lambda path: path.stat().st_size)
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(data)
    code, out, err = call("verify", "v.eigenscope")
    assert code == 1
    assert chunk.name in out
    assert "Resuming" in err
    assert call("resume", "v.eigenscope")[0] == 0
    assert call("verify", "v.eigenscope")[0] == 0
    assert only_result(Path("v.eigenscope")).drop_attrs().identical(before.drop_attrs())


def test_export_pack_and_unpack(call: Call, finished: Path, tmp_path: Path) -> None:
    code, out, _ = call("export", finished, "--format", "npz", "--out", "tables")
    assert code == 0
    with np.load(out.strip()) as arrays:
        np.testing.assert_array_equal(arrays["leading"], only_result(finished).leading.values)
    assert call("pack", finished, "z.zip")[0] == 0
    assert call("verify", "z.zip")[0] == 0
    code, _, err = call("resume", "z.zip")
    assert code == 1
    assert "unpack" in err
    assert call("unpack", "z.zip", "back.eigenscope")[0] == 0
    assert only_result(tmp_path / "back.eigenscope").identical(only_result(finished))


def test_the_parameters_are_listed_from_their_declaration(call: Call) -> None:
    code, out, _ = call("params", "weights")
    assert code == 0
    for name, field in WeightsParams.model_fields.items():
        assert re.search(rf"^{name}\s", out, re.MULTILINE)
        assert field.title is not None
        assert field.title in out
    assert re.search(r"^null_draws\s+\d+\s+integer \d+ to \d+ draws", out, re.MULTILINE)


def test_doctor_looks_at_everything(call: Call) -> None:
    _, out, _ = call("doctor")
    assert [line.split()[0] for line in out.splitlines()] == [
        "Python",
        "Qt",
        "GPU",
        "Memory",
        "Models",
        "Cache",
        "Disk",
    ]
    assert torch.__version__ in out


def test_every_recipe_is_a_request() -> None:
    assert recipes.titles()
    for name in recipes.titles():
        assert recipes.recipe(name).models


def test_help_names_every_command(call: Call) -> None:
    code, out, _ = call("--help")
    assert code == 0
    for command in ("run", "tune", "resume", "params", "verify", "export", "pack", "unpack", "doctor"):
        assert re.search(rf"^  {command} ", out, re.MULTILINE)


@pytest.mark.parametrize(("asked", "length"), [((), 16), (("--length", 5), 5)])
def test_the_length_is_asked_for_or_what_the_model_reads(call: Call, model: Path, asked, length: int) -> None:
    np.save("ids.npy", np.random.default_rng(0).integers(0, 32, (8, 40)))
    few = ("--set", "bootstrap=0", "--set", "density=false", "--set", "fit_start=1")
    code, _, err = call(
        "run", "activations", "--model", model, "--data", "ids.npy", *asked, *few, "--out", "a.eigenscope"
    )
    assert code == 0, err
    (run,) = Session.open(Path("a.eigenscope")).runs()
    assert run.request.data is not None
    assert (run.request.data.length, run.request.data.samples) == (length, 8)
    code, _, err = call("run", "weights", "--model", model, "--length", 5, "--out", "b.eigenscope")
    assert code == 2
    assert "no meaning" in err
    code, _, err = call("run", "activations", "--model", model, "--length", 17, *few, "--out", "c.eigenscope")
    assert code == 1
    assert "which is 16" in err
