"""Save a figure as a self-contained matplotlib script to run and edit: one line per mark, with the data included."""

import base64
import io
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine.printable import printable
from gui.plots import theme
from gui.plots.drawing.scale import Scale, coloured, scales_of
from gui.plots.export.numbers import arrays, key, panels
from gui.plots.export.writing import write
from gui.plots.figure import Axis, Band, Boxes, Figure, Image, Line, Mark, Panel, Points, Rule, Segments, Span, Steps
from gui.plots.legible import legible

_HEAD = '''"""{about}

Run it to see the figure, or give a file name to save it: python {name} figure.pdf
"""

import base64
import io
import sys

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize


plt.rcParams["font.size"] = 8
plt.rcParams["text.usetex"] = False


def colormap(name, colors):
    return LinearSegmentedColormap.from_list(name, colors, N=255).with_extremes(bad={neutral!r})


SEQUENTIAL = colormap("sequential", {sequential})
DIVERGING = colormap("diverging", {diverging})


def load():
    """The arrays, by name."""
    with np.load(io.BytesIO(base64.b64decode(DATA))) as archive:
        return dict(archive)


def draw(data):
    fig, axes = plt.subplots({rows}, {columns}, figsize={size}, squeeze=False, layout="constrained")
'''
_TAIL = '''    return fig


DATA = """
{data}
"""
{table}
if __name__ == "__main__":
{tell}    figure = draw(load())
    if len(sys.argv) > 1:
        figure.savefig(sys.argv[1], dpi=200)
    else:
        plt.show()
'''


def write_script(figure: Figure, path: Path) -> None:
    """Write a self-contained script with the colours, scales and arrays shown on the screen."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays(figure))
    data = "\n".join(textwrap.wrap(base64.b64encode(buffer.getvalue()).decode(), 100))
    rows, columns = max(len(figure.rows), 1), max((len(row) for row in figure.rows), default=1)
    figure = legible(figure)
    about = [figure.title or "A figure", "", *(f"{k}: {v}" for k, v in figure.provenance.items())]
    head = _HEAD.format(
        about=_quoted("\n".join(about).strip()),
        name=_quoted(printable(path.name)),
        neutral=theme.resolve("neutral", dark=False),
        sequential=list(theme.anchors("sequential")),
        diverging=list(theme.anchors("diverging")),
        rows=rows,
        columns=columns,
        size=_size(rows, columns),
    )
    body = "".join(f"    {line}\n" for line in _body(figure, rows, columns))
    text = _quoted(figure.table.text()) if figure.table else ""
    table, tell = (f'\nTABLE = """\n{text}\n"""\n', "    print(TABLE)\n") if text else ("", "")
    write(path, (head + body + _TAIL.format(data=data, table=table, tell=tell)).encode())


def _quoted(text: str) -> str:
    """Return `text` as it stands between triple quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _text(text: str) -> str:
    """Return the literal of a text that matplotlib draws as it is.

    Between dollars it would set mathematics, and a label that begins with an underscore it leaves out of the legend.
    """
    return repr((" " if text.startswith("_") else "") + text.replace("$", r"\$"))


def _body(figure: Figure, rows: int, columns: int) -> Iterator[str]:
    places = {(r, c): panel for r, row in enumerate(figure.rows) for c, panel in enumerate(row)}
    for r in range(rows):
        for c in range(columns):
            if (r, c) not in places:
                yield f"axes[{r}, {c}].remove()"
    scales = scales_of(figure)
    bars = {scales[id(m)] for panel in places.values() for m in coloured(panel.marks)}
    owners: dict[tuple[str, Axis], tuple[int, int]] = {}
    for (r, c), panel in places.items():  # share first: sharing does not copy a log scale set earlier
        for side, axis in (("x", panel.x), ("y", panel.y)):
            owner = owners.setdefault((side, axis), (r, c))
            if owner != (r, c):
                yield f"axes[{r}, {c}].share{side}(axes[{owner[0]}, {owner[1]}])"
    for (r, c), (name, panel) in zip(places, panels(figure), strict=True):
        yield ""
        yield f"ax = axes[{r}, {c}]"
        for side, axis in (("x", panel.x), ("y", panel.y)):
            if owners[side, axis] == (r, c):
                yield from _axis(side, axis)
        for i, mark in enumerate(panel.marks):
            yield from _mark(mark, key(name, i, mark), panel, scales.get(id(mark)))
        if len(bars) > 1 and (first := coloured(panel.marks)):
            yield f"fig.colorbar(colored, ax=ax, label={_text(scales[id(first[0])].label)})"
        yield from _panel(panel, places.get((r + 1, c)), places.get((r, c - 1)))
    yield ""
    if not places and figure.table is not None:
        yield r"fig.text(0.01, 0.9, TABLE.replace('$', r'\$'), family='monospace', size='xx-small', va='top')"
    if len(bars) == 1:
        yield f"fig.colorbar(colored, ax=fig.axes, label={_text(next(iter(bars)).label)})"
    labels = {m.label for p in places.values() for m in p.marks if m.label and not isinstance(m, Image)}
    if figure.legend and labels:
        width = _size(rows, columns)[0]
        across = max(1, min(len(labels), int(14 * width / (max(map(len, labels)) + 7))))
        yield "shown = {label: handle for ax in fig.axes for handle, label in zip(*ax.get_legend_handles_labels())}"
        yield "legend = fig.legend("
        yield f"    shown.values(), shown.keys(), title={_text(figure.title)}, ncols={across},"
        yield "    loc='outside upper left', frameon=False, alignment='left',"
        yield "    title_fontproperties={'weight': 'bold', 'size': 'large'},"
        yield ")"
    else:
        yield f"fig.suptitle({_text(figure.title)}, x=0.01, ha='left', weight='bold', size='large')"
    if figure.note:
        yield "fig.get_layout_engine().set(rect=(0, 0.05, 1, 0.95))"
        yield f"fig.text(0.01, 0.01, {_text(figure.note)}, size='small', color='dimgray', wrap=True)"


def _size(rows: int, columns: int) -> tuple[float, float]:
    """Return width and height in inches."""
    return round(max(7.5, 2.0 * columns), 1), round(max(5.0, 1.7 * rows), 1)


def _axis(side: str, axis: Axis) -> Iterator[str]:
    if axis.log:
        yield f"ax.set_{side}scale('log')"
    if axis.bare:
        yield f"ax.set_{side}ticks([])"
    if axis.ticks:
        turned = ", rotation=90" if axis.upright else ""
        places, texts = [at for at, _ in axis.ticks], ", ".join(_text(text) for _, text in axis.ticks)
        yield f"ax.set_{side}ticks({places}, [{texts}]{turned})"
    if axis.limits:
        yield f"ax.set_{side}lim({', '.join(str(float(v)) for v in sorted(axis.limits))})"
    if axis.inverted:
        yield f"ax.invert_{side}axis()"


def _panel(panel: Panel, below: Panel | None, beside: Panel | None) -> Iterator[str]:
    if panel.title:
        yield f"ax.set_title({_text(panel.title)}, size='medium')"
    if below is not None and below.x == panel.x:
        yield "ax.tick_params(which='both', labelbottom=False)"
    else:
        yield f"ax.set_xlabel({_text(panel.x.label)})"
    if beside is not None and beside.y == panel.y:
        yield "ax.tick_params(which='both', labelleft=False)"
    else:
        yield f"ax.set_ylabel({_text(panel.y.label)})"
    if panel.equal:
        yield "ax.set_aspect('equal', adjustable='box')"
    if panel.current:
        yield f"ax.spines[:].set(color={theme.resolve('accent', dark=False)!r}, linewidth=2)"


def _mark(mark: Mark, name: str, panel: Panel, scale: Scale | None) -> Iterator[str]:
    def get(field: str) -> str:
        return f"data['{name}_{field}']"

    color = "" if isinstance(mark, Image) else repr(theme.resolve(mark.color, dark=False))
    label = f", label={_text(mark.label)}" if mark.label else ""
    match mark:
        case Line():
            style = f"color={color}, lw={mark.width * 0.75}" + (", ls='--'" if mark.dash else "")
            style += f", marker='o', ms={2.5 + mark.width * 0.75}" if mark.markers else ""
            yield f"ax.plot({get('x')}, {get('y')}, {style}{label})"
        case Points():
            symbol = {"d": "D", "star": "*"}.get(mark.symbol, mark.symbol)
            style = f"s=(0.75 * {get('size')}) ** 2, marker={symbol!r}"
            if mark.values is not None and scale is not None:
                style += f", c={get('values')}, plotnonfinite=True, cmap=SEQUENTIAL, norm={_norm(scale)}"
            elif mark.filled or mark.symbol in "+x":
                style += f", color={color}"
            else:
                style += f", facecolors='none', edgecolors={color}"
            line = f"ax.scatter({get('x')}, {get('y')}, {style}{label}, zorder=3)"
            yield line if mark.values is None else f"colored = {line}"
        case Segments():
            yield f"edges = np.stack([{get('x')}, {get('y')}], axis=2)"
            style = f"colors={color}, lw=0.5, alpha={mark.opacity}, zorder=1"
            yield f"ax.add_collection(LineCollection(edges, {style}{label}))"
        case Band():
            area = f"{get('x')}, {get('low')}, {get('high')}"
            yield f"ax.fill_between({area}, color={color}, alpha={mark.opacity}, lw=0{label})"
        case Steps():
            bars = f"{get('height')}, {get('edges')}"
            yield f"ax.stairs({bars}, fill=True, color={color}, alpha=0.24{label})"
            yield f"ax.stairs({bars}, color={color}, lw=0.75)"
        case Boxes():
            sides = ("low", "q1", "median", "q3", "high")
            yield f"groups = np.stack([{', '.join(map(get, sides))}], axis=1)"
            yield "shown = np.isfinite(groups).all(axis=1)"
            yield "names = ('whislo', 'q1', 'med', 'q3', 'whishi')"
            yield "ax.bxp("
            yield f"    [dict(zip(names, group)) for group in groups[shown]], positions={get('x')}[shown],"
            yield f"    widths=float({get('width')}), showfliers=False, patch_artist=True, manage_ticks=False,"
            line = f"'color': {color}, 'lw': 0.75"
            yield f"    boxprops={{'facecolor': ({color}, 0.28), 'edgecolor': {color}, 'lw': 0.75}},"
            yield f"    whiskerprops={{{line}}}, capprops={{{line}}}, "
            yield f"    medianprops={{'color': {color}, 'lw': 1.6}},{label[1:]}"
            yield ")"
        case Image():
            yield from _image(mark, get("z"), get("x_edges"), get("y_edges"), panel, scale)
        case Rule():
            call = "axvline" if mark.axis == "x" else "axhline"
            style = f"color={color}, lw=0.9" + (", ls='--'" if mark.dash else "")
            yield f"ax.{call}({get('at')}, {style}{label})"
        case Span():
            yield f"ax.axvspan({get('low')}, {get('high')}, color={color}, alpha=0.1, lw=0{label})"


def _norm(scale: Scale) -> str:
    low, high = (10**v if scale.log else v for v in (scale.low, scale.high))
    return f"{'LogNorm' if scale.log else 'Normalize'}({float(low)!r}, {float(high)!r}, clip=True)"


def _image(image: Image, z: str, x: str, y: str, panel: Panel, scale: Scale | None) -> Iterator[str]:
    assert scale is not None
    # A cell that reaches zero cannot be drawn on a log axis
    skip_x = int((np.asarray(image.x_edges) <= 0).sum()) if panel.x.log else 0
    skip_y = int((np.asarray(image.y_edges) <= 0).sum()) if panel.y.log else 0
    if skip_x or skip_y:
        x, y, z = f"{x}[{skip_x}:]", f"{y}[{skip_y}:]", f"{z}[{skip_y}:, {skip_x}:]"
    shown = f"np.ma.masked_where(~({z} > 0), {z})" if image.log else f"np.ma.masked_invalid({z})"
    cmap = image.colormap.upper()
    yield f"colored = ax.pcolormesh({x}, {y}, {shown}, cmap={cmap}, norm={_norm(scale)}, rasterized=True)"
    for row, column in image.marked:
        xe, ye = image.x_edges, image.y_edges
        x0, y0 = float(xe[column]), float(ye[row])
        width, height = float(xe[column + 1]) - x0, float(ye[row + 1]) - y0
        yield f"ax.add_patch(plt.Rectangle(({x0!r}, {y0!r}), {width!r}, {height!r}, fill=False, ec='k', lw=1.5))"
