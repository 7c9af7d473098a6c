"""CSV, NPZ and the matplotlib script hold exactly the arrays that are drawn."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from demo_figures import grid, heatmap, mixed

from gui.plots.export.numbers import COLUMNS, arrays, panels, write_csv, write_npz
from gui.plots.export.script import write_script
from gui.plots.figure import Axis, Figure, Image, Panel, Points, Steps


def read_csv(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("# ")]
    rows = list(csv.DictReader(lines[len(comments) :]))
    return comments, rows


def column(rows, name):
    return np.array([float(r[name]) if r[name] else np.nan for r in rows])


def test_an_npz_holds_the_arrays_and_says_what_they_are(tmp_path):
    figure = mixed()
    write_npz(figure, tmp_path / "figure.npz")
    with np.load(tmp_path / "figure.npz", allow_pickle=False) as archive:
        read = dict(archive)
    about = json.loads(str(read.pop("about")))
    points, _, rule = figure.rows[0][0].marks
    np.testing.assert_array_equal(read["r0c0_0_points_x"], points.x)
    np.testing.assert_array_equal(read["r0c0_0_points_values"], points.values)
    assert read["r0c0_2_rule_at"] == rule.at
    np.testing.assert_array_equal(read["r0c1_0_steps_edges"], figure.rows[0][1].marks[0].edges)
    np.testing.assert_array_equal(read["r0c1_0_steps_height"], figure.rows[0][1].marks[0].height)
    np.testing.assert_array_equal(read["r1c0_0_image_z"], figure.rows[1][0].marks[0].z)
    assert len(read) == 26
    assert about["provenance"] == {"model": "builtin", "seed": "0"}
    assert about["panels"]["r0c0"]["x"] == {"label": "σ", "log": True}
    assert about["panels"]["r0c0"]["marks"]["r0c0_0_points"] == "heads"


def test_a_csv_has_every_number_in_full(tmp_path):
    figure = mixed()
    write_csv(figure, tmp_path / "figure.csv")
    comments, rows = read_csv(tmp_path / "figure.csv")
    assert tuple(rows[0]) == COLUMNS
    assert comments[:4] == ["# Every mark once", "# A note with “quotes” & <signs>.", "# model: builtin", "# seed: 0"]
    assert "# r0c0: x is σ, y is entropy <&> “S”" in comments
    points, _ring, rule = figure.rows[0][0].marks
    mine = [r for r in rows if (r["panel"], r["mark"]) == ("r0c0", "0")]
    assert {(r["kind"], r["label"]) for r in mine} == {("points", "heads")}
    for name, expected in (("x", points.x), ("y", points.y), ("z", points.values)):
        np.testing.assert_array_equal(column(mine, name), expected)
    (only,) = [r for r in rows if (r["panel"], r["mark"]) == ("r0c0", "2")]
    assert (only["kind"], only["x"], only["y"]) == ("rule", "", str(rule.at))
    bars = figure.rows[0][1].marks[0]
    mine = [r for r in rows if (r["panel"], r["mark"]) == ("r0c1", "0")]
    for name, expected in (("x", bars.edges[:-1]), ("x_end", bars.edges[1:]), ("y", bars.height)):
        np.testing.assert_array_equal(column(mine, name), expected)
    image = figure.rows[1][0].marks[0]
    mine = [r for r in rows if r["kind"] == "image"]
    np.testing.assert_array_equal(column(mine, "z"), image.z.ravel())
    np.testing.assert_array_equal(column(mine, "x_end").reshape(image.z.shape)[0], image.x_edges[1:])
    np.testing.assert_array_equal(column(mine, "y").reshape(image.z.shape)[:, 0], image.y_edges[:-1])


def test_a_csv_has_both_sides_of_a_band(tmp_path):
    figure = grid(1, 1)
    write_csv(figure, tmp_path / "figure.csv")
    _, rows = read_csv(tmp_path / "figure.csv")
    band = figure.rows[0][0].marks[0]
    mine = [r for r in rows if r["kind"] == "band"]
    np.testing.assert_array_equal(column(mine, "low"), band.low)
    np.testing.assert_array_equal(column(mine, "high"), band.high)
    assert {r["title"] for r in rows} == {"head 0"}


def run(script, tmp_path):
    """Run a script as its user would, without a screen, then read its arrays back."""
    env = os.environ | {"MPLBACKEND": "Agg", "PYTHONWARNINGS": "error::UserWarning"}
    picture, read = tmp_path / "redrawn.png", tmp_path / "read.npz"
    code = (
        "import runpy, sys, numpy as np\n"
        f"sys.argv = [{str(script)!r}, {str(picture)!r}]\n"
        "names = runpy.run_path(sys.argv[0], run_name='__main__')\n"
        f"np.savez({str(read)!r}, **names['load']())\n"
        "fig = names['figure']\n"
        "axes = [[ax.get_xscale(), ax.get_yscale(), ax.xaxis.get_inverted(), ax.yaxis.get_inverted(), ax.get_title(),\n"
        "    len(ax.lines), len(ax.collections), len(ax.patches)] for ax in fig.axes]\n"
        "middle = lambda ax: ax.transData.transform((ax.get_xlim()[0], np.sqrt(np.prod(ax.get_ylim()))))\n"
        "logs = [ax for ax in fig.axes if ax.get_yscale() == 'log']\n"
        "middles = [float(ax.transAxes.inverted().transform(middle(ax))[1]) for ax in logs]\n"
        "import json; print(json.dumps([axes, middles], default=bool))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(read) as archive:
        return picture, dict(archive), json.loads(done.stdout)


def both(first, second):
    return Figure(first.rows + second.rows, title=first.title, note=first.note, provenance=first.provenance)


def test_the_script_runs_and_draws_the_same_arrays(tmp_path):
    figure = both(mixed(), heatmap())
    script = tmp_path / "figure.py"
    write_script(figure, script)
    compile(script.read_text(encoding="utf-8"), "figure.py", "exec")
    picture, read, (axes, _) = run(script, tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
    expected = arrays(figure)
    assert read.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(read[name], array)
    # scales, direction, title, then lines (with rules), collections (points, meshes), patches (bars, outlines)
    assert axes[0] == ["log", "linear", False, False, "", 1, 2, 0]
    assert axes[1] == ["linear", "log", False, False, "", 2, 0, 2]
    assert axes[2][:2] == ["log", "linear"]
    assert axes[3] == ["linear", "linear", False, False, "cloud", 1, 3, 0]
    assert axes[4] == ["linear", "linear", False, True, "", 0, 1, 1]


def test_the_script_of_a_grid_shares_its_log_axes(tmp_path):
    """Drawn in matplotlib, every head has the position that the screen gives it: a shared log axis is one."""
    write_script(grid(5, 3), tmp_path / "figure.py")
    _, _, (axes, middles) = run(tmp_path / "figure.py", tmp_path)
    assert {tuple(a[:2]) for a in axes} == {("linear", "log")}
    # the geometric mean of the limits stands half-way up in every panel
    np.testing.assert_allclose(middles, [0.5] * 5, atol=1e-6)


def test_odd_text_does_not_break_the_script(tmp_path):
    points = Points(np.array([1.0]), np.array([2.0]), 'a "quoted"\\n label', values=np.array([np.nan]))
    bars = Steps(np.array([0.0, 1.0]), np.array([1.0]), "it's")
    image = Image(np.ones((1, 2)), np.array([0.0, 1, 2]), np.array([1.0, 2]), log=True, limits=(0.5, 2))
    panels = (Panel(Axis("x"), Axis("y"), (points, bars)), Panel(Axis("x", log=True), Axis("y"), (image,)))
    figure = Figure((panels,), title='"""\\', note="'''", provenance={"folder": "C:\\new\\temp"})
    write_script(figure, tmp_path / "figure.py")
    _, read, _ = run(tmp_path / "figure.py", tmp_path)
    assert np.isnan(read["r0c0_0_points_values"]).all()


@pytest.mark.parametrize("write", [write_csv, write_npz, write_script])
def test_an_empty_figure_can_be_saved(tmp_path, write):
    write(Figure(empty="nothing yet"), tmp_path / "figure")
    assert (tmp_path / "figure").stat().st_size > 10


def test_panels_are_named_by_row_and_column():
    assert [name for name, _ in panels(grid(5, 3))] == ["r0c0", "r0c1", "r0c2", "r1c0", "r1c1"]
