"""Carried out in a process of its own: draws the graph of a layer and pans it; reports seconds as JSON.

``python -m benchmarks.communities_drawing_probe NODES EDGES FRAMES``.
"""

import json
import sys
import time
from collections.abc import Callable

import numpy as np
import xarray as xr
from PySide6.QtCore import QPointF
from PySide6.QtWidgets import QApplication

from engine.models.info import ModelInfo
from gui.plots.figure_widget import FigureWidget
from gui.plots.selection import Selection
from gui.views.communities.graph import GraphOptions, graph

GROUPS = 60
SITES, LAYERS = 2, 2


def snapshots(nodes: int, edges: int) -> xr.Dataset:
    """Two layers of one model as the analysis stores them: groups of units, four of five edges inside them."""
    rng = np.random.default_rng(0)
    head = ("model", "site", "layer")
    of = np.sort(rng.integers(min(GROUPS, nodes // 3), size=nodes))
    sizes = np.bincount(of)
    membership = np.argsort(np.argsort(-sizes, kind="stable"))[of]
    centres = rng.standard_normal((len(sizes), 2))
    source = rng.integers(nodes, size=edges)
    inside = np.searchsorted(of, of[source]) + rng.integers(nodes, size=edges) % sizes[of[source]]
    target = np.where(rng.random(edges) < 0.8, inside, rng.integers(nodes, size=edges))
    weight = rng.uniform(0.1, 1, edges) * rng.choice([-1, 1, 1], edges)
    units = {
        "membership": membership,
        **{name: rng.random(nodes) for name in ("participation", "degree", "column_norm")},
    }
    tail = round(0.1 * nodes)
    scalars = {"n_communities": len(sizes), "n_degenerate": 0, "n_constant": 0, "weakest_edge": 0.1}
    scalars |= {"tail_top": tail, "tail_bottom": tail}
    own = {
        **{name: ((), value) for name, value in scalars.items()},
        **{name: (("unit",), value) for name, value in units.items()},
        "position": (("unit", "xy"), centres[of] + 0.15 * rng.standard_normal((nodes, 2))),
        "community_size": (("community",), np.sort(sizes)[::-1].astype(float)),
        "lineage": (("community",), np.arange(len(sizes), dtype=float)),
        "edge_source": (("edge",), source),
        "edge_target": (("edge",), target),
        "edge_weight": (("edge",), weight),
    }
    variables = {
        name: ((*head, *dims), np.tile(array, (1, SITES, LAYERS, *[1] * len(dims))))
        for name, (dims, array) in own.items()
    }
    variables["position"][1][:, :, 1] += 0.02 * rng.standard_normal((nodes, 2))
    info = ModelInfo(
        label="wide", source="wide", revision=None, twin=False, architecture="GPT2LMHeadModel", family="gpt2",
        causal=True, n_layers=LAYERS, d_model=nodes, n_heads=1, n_kv_heads=1, d_head=nodes, vocab_size=1, context=1,
        n_parameters=1, storage_dtype="float32", norm="layernorm", rotary=False, qk_norm=False, identity="wide",
        load_bytes=1,
    )  # fmt: skip
    attrs = {"analysis": "communities", "models": json.dumps([info.model_dump(mode="json")])}
    return xr.Dataset(variables, attrs=attrs).assign(noise_correlation=("model", [0.03]))


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of this thread's processor time."""
    began, busy = time.perf_counter(), time.thread_time()
    function()
    return time.perf_counter() - began, time.thread_time() - busy


def main(nodes: int, edges: int, frames: int) -> None:
    app = QApplication([])
    dataset = snapshots(nodes, edges)
    widget = FigureWidget()
    widget.resize(1200, 800)
    widget.show()
    app.processEvents()
    graph(snapshots(30, 60), Selection(), GraphOptions())  # reads what the view imports

    def show(layer: int) -> None:
        widget.show_figure(graph(dataset, Selection(layer=layer), GraphOptions()))
        app.processEvents()

    figure = timed(lambda: graph(dataset, Selection(), GraphOptions()))[1]
    first, first_busy = timed(lambda: show(0))
    panel = next(iter(widget.canvas._panels.values()))
    pans = []
    for frame in range(frames):
        step = panel.view.viewPixelSize()[0] * 12 * (1 if frame % 20 < 10 else -1)

        def move(step: float = step) -> None:
            panel.view.translateBy(x=step, y=step / 2)
            panel.view.sigRangeChangedManually.emit([True, True])
            app.processEvents()

        pans.append(timed(move))
    place = panel.view.mapViewToScene(panel.view.viewRect().center())
    hover = timed(lambda: widget.canvas._mouse_moved(QPointF(place)))[1]
    following = timed(lambda: show(1))[1]
    figures = {
        "nodes": nodes, "edges": edges, "platform": app.platformName(), "figure": figure, "first": first,
        "first_busy": first_busy, "pan": [wall for wall, _ in pans], "pan_busy": [busy for _, busy in pans],
        "next": following, "hover": hover,
    }  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
