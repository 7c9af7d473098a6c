"""Figures that the tests of the renderer and of the exports share, made of plain mathematics."""

import numpy as np

from gui.plots.figure import Axis, Band, Boxes, Figure, Image, Line, Panel, Points, Rule, Segments, Steps
from gui.plots.selection import Pick

RANK = np.arange(1.0, 65)


def spectrum(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).exponential(size=64).cumsum()[::-1] * np.exp(-RANK / 9)


def head(index: int, seed: int = 0) -> Panel:
    middle = spectrum(1000)
    return Panel(
        Axis("index k"),
        Axis("λₖ", log=True),
        (
            Band(RANK, middle * 0.7, middle * 1.4, "null, 95 %", "null"),
            Line(RANK, middle, "null, median", "null", dash=True),
            Line(RANK, spectrum(index + 100 * seed), "head", width=2),
        ),
        title=f"head {index}",
        pick=Pick(head=index),
        current=index == 3,
    )


def grid(heads: int, columns: int, seed: int = 0) -> Figure:
    """All heads of a layer."""
    panels = [head(i, seed) for i in range(heads)]
    rows = tuple(tuple(panels[i : i + columns]) for i in range(0, heads, columns))
    return Figure(rows, title="Every head of layer 3", note="null: 200 draws")


def heatmap(rows: int = 24, columns: int = 20, seed: int = 0) -> Figure:
    """A log-coloured heatmap with a NaN, a zero and a marked cell, read from the top."""
    z = np.exp(np.random.default_rng(seed).normal(size=(rows, columns)))
    z[1, 2], z[2, 3] = np.nan, 0.0
    image = Image(
        z,
        np.arange(columns + 1) - 0.5,
        np.arange(rows + 1) - 0.5,
        label="λₖ",
        log=True,
        picks=tuple(tuple(Pick(layer=i, head=j) for j in range(columns)) for i in range(rows)),
        marked=((5, 6),),
    )
    x, y = Axis("head"), Axis("layer", inverted=True, limits=(-0.5, rows - 0.5))
    return Figure(((Panel(x, y, (image,)),),), title="heatmap", legend=False)


def mixed() -> Figure:
    """Every kind of mark and axis once."""
    rng = np.random.default_rng(0)
    layer = np.repeat(np.arange(4.0), 6)
    broken = np.array([1.0, 10, np.nan, 1000, 0, 100])
    edges = np.array([0.0, 0.1, 1, 10, 100])
    return Figure(
        (
            (
                Panel(
                    Axis("σ", log=True),
                    Axis("entropy <&> “S”"),
                    (
                        Points(
                            np.exp(rng.normal(size=24)),
                            rng.random(24),
                            "heads",
                            values=layer,
                            values_label="layer",
                            picks=tuple(Pick(layer=int(i)) for i in layer),
                            hover=tuple(f"head {i}" for i in range(24)),
                        ),
                        Points(np.array([1.0]), np.array([0.5]), "selected", "ink", size=15, filled=False),
                        Rule("y", 0.5, "half", "law"),
                    ),
                ),
                Panel(
                    Axis("λ"),
                    Axis("P(λ)", log=True),
                    (
                        Steps(np.linspace(0, 6, 7), broken, "measured"),
                        Line(np.linspace(0.5, 5.5, 6), broken, "law", "law", markers=True, picks=(Pick(model=1),)),
                        Rule("x", 4.0, "edge", "naive"),
                    ),
                ),
            ),
            (
                Panel(
                    Axis("λ", log=True),
                    Axis("layer", ticks=((0, "first"), (1, "second"))),
                    (Image(rng.normal(size=(2, 4)), edges, np.array([-0.5, 0.5, 1.5]), "Δ", colormap="diverging"),),
                ),
                Panel(
                    Axis("Re λ"),
                    Axis("Im λ"),
                    (
                        Line(np.cos(RANK / 10), np.sin(RANK / 10), "disc", "null", dash=True),
                        Points(rng.normal(size=30), rng.normal(size=30), "eigenvalues", "c3", symbol="d"),
                        Segments(rng.normal(size=(9, 2)), rng.normal(size=(9, 2)), "edges", "muted", opacity=0.5),
                        Points(rng.normal(size=8), rng.normal(size=8), "nodes", "c1", size=np.arange(3.0, 11)),
                    ),
                    equal=True,
                    title="cloud",
                ),
            ),
        ),
        title="Every mark once",
        note="A note with “quotes” & <signs>.",
        provenance={"model": "builtin", "seed": "0"},
    )


def boxes(log: bool = False) -> Figure:
    """Three groups, the second of them absent, with a point beyond a whisker."""
    low, q1, median, q3, high = np.array([[1.0, 2, 4, 8, 16], [np.nan] * 5, [2.0, 3, 5, 6, 7]]).T
    marks = (
        Boxes(np.arange(3.0), low, q1, median, q3, high, 0.5, "groups", "c0", tuple(Pick(layer=i) for i in range(3))),
        Points(np.array([0.0]), np.array([40.0]), "beyond", "c0", picks=(Pick(layer=0, sample=7),)),
    )
    return Figure(((Panel(Axis("layer"), Axis("σ₁", log=log), marks),),), title="Boxes")
