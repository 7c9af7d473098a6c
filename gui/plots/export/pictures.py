"""Save a figure in the format that the file name says, or copy its image.

Pictures are the canvas itself, painted by its scene in pyqtgraph's export mode (symbols as shapes instead of cached
images), always in the light theme on white. Every file is written under a temporary name and then moved into place, so
that a failure leaves any earlier file intact.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from xml.sax.saxutils import escape

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QMarginsF, QPointF, QRectF, QSize, QSizeF, Qt
from PySide6.QtGui import QGuiApplication, QImage, QImageWriter, QPageSize, QPaintDevice, QPainter, QPdfWriter

from engine.errors import UserError
from gui.plots.drawing.canvas import Canvas
from gui.plots.drawing.drawn import Look
from gui.plots.export import numbers, script
from gui.plots.export.writing import write
from gui.plots.figure import Figure
from gui.plots.table import PaperTable

PROGRAM = "Eigenscope"
MARGIN = 10
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{description}</rdf:li></rdf:Alt></dc:description>
<xmp:CreatorTool>{program}</xmp:CreatorTool>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


class FigureSource(Protocol):
    """The widget whose figure is exported."""

    @property
    def canvas(self) -> Canvas: ...

    def shown_figure(self) -> Figure:
        """Return the figure without hidden marks."""


def save(widget: FigureSource, path: Path, scale: float = 2.0) -> None:
    """Save the figure of `widget` in the format of the file name.

    Parameters
    ----------
    widget : FigureSource
    path : Path
        Ends in ``.pdf``, ``.svg``, ``.png``, ``.csv``, ``.npz`` or ``.py`` (a matplotlib script).
    scale : float
        Pixels of a PNG per pixel on the screen.

    Raises
    ------
    UserError
        If the format is unknown or the file cannot be written.
    """
    match path.suffix.lower():
        case ".pdf":
            save_pdf(widget, path)
        case ".svg":
            save_svg(widget, path)
        case ".png":
            save_png(widget, path, scale)
        case ".csv":
            numbers.write_csv(widget.shown_figure(), path)
        case ".npz":
            numbers.write_npz(widget.shown_figure(), path)
        case ".py":
            script.write_script(widget.shown_figure(), path)
        case other:
            raise UserError(f"Figures cannot be saved as “{other}”: choose pdf, svg, png, csv, npz or py.")


def save_pdf(widget: FigureSource, path: Path) -> None:
    """Save one page of the figure's own size as vectors, with text as text."""
    figure, size = widget.canvas.figure, _size(widget)
    buffer = _buffer()
    writer = QPdfWriter(buffer)
    writer.setResolution(96)  # one unit of the painter is one pixel of the screen
    points = QSizeF(size.width() * 0.75, size.height() * 0.75)
    writer.setPageSize(QPageSize(points, QPageSize.Unit.Point, "", QPageSize.SizeMatchPolicy.ExactMatch))
    writer.setPageMargins(QMarginsF(0, 0, 0, 0))
    writer.setTitle(figure.title)
    writer.setCreator(PROGRAM)
    xmp = _XMP.format(title=escape(figure.title), description=escape(_description(figure)), program=PROGRAM)
    writer.setDocumentXmpMetadata(QByteArray(xmp.encode()))
    _paint(widget, writer)
    write(path, bytes(buffer.data().data()))


def save_svg(widget: FigureSource, path: Path) -> None:
    """Save the figure as vectors, with text as text."""
    from PySide6.QtSvg import QSvgGenerator

    figure, size = widget.canvas.figure, _size(widget)
    buffer = _buffer()
    generator = QSvgGenerator(QSvgGenerator.SvgVersion.Svg11)  # SVG Tiny 1.2, the default, cannot clip
    generator.setOutputDevice(buffer)
    generator.setResolution(96)
    generator.setSize(size)
    generator.setViewBox(QRectF(0, 0, size.width(), size.height()))
    generator.setTitle(figure.title)
    generator.setDescription(_description(figure))
    _paint(widget, generator)
    write(path, bytes(buffer.data().data()))


def save_png(widget: FigureSource, path: Path, scale: float = 2.0) -> None:
    """Save `scale` pixels per screen pixel in each direction."""
    figure, image = widget.canvas.figure, render(widget, scale)
    image.setText("Title", figure.title)
    image.setText("Software", PROGRAM)
    for key, value in figure.provenance.items():
        image.setText(key, value)
    buffer = _buffer()
    QImageWriter(buffer, QByteArray(b"png")).write(image)
    write(path, bytes(buffer.data().data()))


def copy_image(widget: FigureSource) -> None:
    """Copy the figure to the clipboard at twice the screen's resolution."""
    QGuiApplication.clipboard().setImage(render(widget, 2.0))


def render(widget: FigureSource, scale: float) -> QImage:
    """Return the figure as an image `scale` times its size on the screen."""
    size = _size(widget)
    pixels = QSize(round(size.width() * scale), round(size.height() * scale))
    image = QImage(pixels, QImage.Format.Format_RGB32)
    image.setDevicePixelRatio(scale)
    image.fill(Qt.GlobalColor.white)
    _paint(widget, image, scale)
    return image


def _buffer() -> QBuffer:
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    return buffer


def _description(figure: Figure) -> str:
    return "\n".join([*filter(None, (figure.note,)), *(f"{k}: {v}" for k, v in figure.provenance.items())])


def _paper_table(widget: FigureSource) -> PaperTable | None:
    table = widget.shown_figure().table
    return PaperTable(table, widget.canvas.width() - 2 * MARGIN, widget.canvas.font()) if table else None


def _size(widget: FigureSource) -> QSize:
    """Return the size of a picture: the canvas with the whole table below it."""
    paper = _paper_table(widget)
    return widget.canvas.size() + QSize(0, round(paper.height + MARGIN) if paper else 0)


def _paint(widget: FigureSource, device: QPaintDevice, stroke: float = 1.0) -> None:
    """Paint the scene and the table below it on a device whose logical size is `_size`."""
    place = QRectF(0, 0, widget.canvas.width(), widget.canvas.height())
    with _for_paper(widget, stroke):
        painter = QPainter(device)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.LosslessImageRendering)
        painter.fillRect(QRectF(QPointF(0, 0), QSizeF(_size(widget))), Qt.GlobalColor.white)
        widget.canvas.scene().render(painter, place, place)
        if paper := _paper_table(widget):
            paper.paint(painter, MARGIN, place.height())
        painter.end()


@contextmanager
def _for_paper(widget: FigureSource, stroke: float) -> Iterator[None]:
    """Switch the canvas to the light theme and pyqtgraph's export mode, without updating the screen."""
    canvas = widget.canvas
    look = canvas.look
    canvas.setUpdatesEnabled(False)
    canvas.set_look(Look(dark=False, stroke=stroke))
    canvas.hide_ring()
    items = [item for item in canvas.scene().items() if hasattr(item, "setExportMode")]
    try:
        for item in items:
            item.setExportMode(True, {"antialias": True, "resolutionScale": 1.0})
        yield
    finally:
        for item in items:
            item.setExportMode(False)
        canvas.set_look(look)
        canvas.setUpdatesEnabled(True)
