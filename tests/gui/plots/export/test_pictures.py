"""PDF and SVG are vectors, a PNG has the pixels asked for, all are the figure on the screen in the light theme."""

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import numpy as np
import pytest
from demo_figures import RANK, grid, heatmap, mixed
from PySide6.QtCore import QPoint
from PySide6.QtGui import QImage, QPainter
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication

from engine.errors import UserError
from gui.plots.export import pictures
from gui.plots.export.writing import write
from gui.plots.figure import Axis, Figure, Line, Panel
from gui.plots.figure_widget import FigureWidget

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def widget(qtbot):
    widget = FigureWidget()
    qtbot.addWidget(widget)
    widget.resize(700, 500)
    widget.show()
    widget.set_theme(True)  # exports must be light whatever the screen is
    QApplication.processEvents()
    return widget


def streams(pdf):
    """The decompressed streams of a PDF that are not images, fonts or metadata: what the page draws."""
    found = []
    for match in re.finditer(rb"stream\r?\n(.*?)endstream", pdf, re.S):
        try:
            found.append(zlib.decompress(match.group(1)))
        except zlib.error:
            continue
    return found


def images(pdf):
    return [tuple(map(int, m)) for m in re.findall(rb"/Subtype /Image\s+/Width (\d+)\s+/Height (\d+)", pdf)]


def as_array(image):
    image = image.convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).astype(int)


def test_a_pdf_is_vectors_with_fonts_on_a_page_of_the_figure(widget, tmp_path):
    widget.show_figure(grid(6, 3))
    path = tmp_path / "figure.pdf"
    pictures.save(widget, path)
    pdf = path.read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert images(pdf) == []
    assert b"/FontFile2" in pdf
    left, bottom, right, top = map(float, re.search(rb"/MediaBox \[([\d. ]+)\]", pdf).group(1).split())
    assert (left, bottom) == (0, 0)
    assert (right, top) == pytest.approx((widget.canvas.width() * 0.75, widget.canvas.height() * 0.75), abs=1)
    drawn = max(streams(pdf), key=len)
    assert drawn.count(b" l\n") > 6 * 2 * len(RANK), "the curves are lines"


def test_a_heatmap_in_a_pdf_is_its_cells_and_no_more(widget, tmp_path):
    widget.show_figure(heatmap())
    pictures.save(widget, tmp_path / "figure.pdf")
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert sorted(images(pdf)) == [(1, 255), (20 * 8, 24 * 8)]  # the colour bar and the cells, enlarged
    assert b"DCTDecode" not in pdf, "no cell is blurred by JPEG"


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="poppler is not installed")
def test_the_text_of_a_pdf_is_text(widget, tmp_path):
    widget.show_figure(mixed())
    pictures.save(widget, tmp_path / "figure.pdf")
    text = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "figure.pdf", "-"], capture_output=True, text=True, check=True
    ).stdout
    for expected in ("Every mark once", "eigenvalues", "P(λ)", "second", "A note with “quotes” & <signs>."):
        assert expected in text


def test_provenance_is_in_every_picture(widget, tmp_path):
    widget.show_figure(mixed())
    for suffix in ("pdf", "svg", "png"):
        pictures.save(widget, tmp_path / f"figure.{suffix}")
    pdf = (tmp_path / "figure.pdf").read_bytes().decode("latin-1").encode("latin-1")
    packet = pdf[pdf.index(b"<x:xmpmeta") : pdf.index(b"</x:xmpmeta>") + len(b"</x:xmpmeta>")]
    described = "".join(ET.fromstring(packet).itertext())
    assert "model: builtin" in described
    assert "A note with “quotes” & <signs>." in described
    root = ET.parse(tmp_path / "figure.svg").getroot()
    assert root.findtext(f"{SVG}title") == "Every mark once"
    assert "seed: 0" in root.findtext(f"{SVG}desc")
    image = QImage(str(tmp_path / "figure.png"))
    assert (image.text("Title"), image.text("model"), image.text("seed")) == ("Every mark once", "builtin", "0")


def test_an_svg_is_valid_and_in_vectors(widget, tmp_path):
    widget.show_figure(mixed())
    path = tmp_path / "figure.svg"
    pictures.save(widget, path)
    root = ET.parse(path).getroot()
    assert root.get("viewBox") == f"0 0 {widget.canvas.width()} {widget.canvas.height()}"
    words = {"".join(t.itertext()).strip() for t in root.iter(f"{SVG}text")}
    assert {"Every mark once", "entropy <&> “S”", "heads", "selected", "second", "cloud"} <= words
    assert len(list(root.iter(f"{SVG}path"))) > 60, "points and bars"
    # Marks are clipped to their own panels
    boxes = []
    for clip in root.iter(f"{SVG}clipPath"):
        numbers = re.findall(r"[ML]([-\d.]+),([-\d.]+)", clip.find(f"{SVG}path").get("d"))
        xs, ys = np.array(numbers, float).T
        boxes.append((min(xs), min(ys), max(xs), max(ys)))
    for item in widget.canvas._panels.values():
        plot = item.mapRectToScene(item.plot)
        expected = np.array([plot.left(), plot.top(), plot.right(), plot.bottom()])
        assert min(np.abs(np.array(box) - expected).max() for box in boxes) <= 1.5


def test_an_svg_looks_like_the_png(widget, tmp_path):
    """Read by another renderer (Qt's SVG reader): lines, points, heatmaps with uneven edges, legend and text."""
    panels = tuple(tuple(p for p in row if p.y.label != "P(λ)") for row in mixed().rows)  # that reader cannot clip
    widget.show_figure(Figure(panels, title="Both"))
    pictures.save(widget, tmp_path / "figure.svg")
    expected = as_array(pictures.render(widget, 1.0))
    image = QImage(widget.canvas.size(), QImage.Format.Format_RGB32)
    image.fill(0xFFFFFFFF)
    painter = QPainter(image)
    QSvgRenderer(str(tmp_path / "figure.svg")).render(painter)
    painter.end()
    difference = np.abs(as_array(image) - expected).mean(axis=2)
    assert difference.mean() < 2.0
    blocks = difference[: 20 * (difference.shape[0] // 20), : 20 * (difference.shape[1] // 20)]
    blocks = blocks.reshape(blocks.shape[0] // 20, 20, -1, 20).mean(axis=(1, 3))
    assert blocks.max() < 60, "nothing is missing anywhere"


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_png_has_the_pixels_asked_for(widget, tmp_path, scale):
    widget.show_figure(grid(2, 2))
    pictures.save(widget, tmp_path / "figure.png", scale)
    image = QImage(str(tmp_path / "figure.png"))
    assert (image.width(), image.height()) == (scale * widget.canvas.width(), scale * widget.canvas.height())
    assert image.pixelColor(2, 2).name() == "#ffffff"


def test_lines_are_as_wide_in_a_large_png_as_in_a_small_one(widget):
    line = Line(np.array([0.0, 1.0]), np.array([0.5, 0.5]), width=3, color="c1")
    widget.show_figure(Figure(((Panel(Axis("x"), Axis("y", limits=(0, 1)), (line,)),),)))
    inked = []
    for scale in (1, 4):
        picture = as_array(pictures.render(widget, scale))
        column = picture[:, picture.shape[1] // 2]
        inked.append(((column[:, 2] < 120) & (column[:, 0] > 150)).sum() / scale)
    assert inked[0] == pytest.approx(3, abs=1.1)
    assert inked[1] == pytest.approx(inked[0], abs=1)


def test_the_screen_is_as_it_was_after_an_export(widget):
    widget.show_figure(mixed())
    before = widget.canvas.grab().toImage()
    pictures.render(widget, 2.0)
    assert widget.canvas.look.dark
    assert widget.canvas.updatesEnabled()
    assert widget.canvas.grab().toImage() == before
    assert before.pixelColor(QPoint(2, 2)).lightness() < 60


def test_what_the_legend_hides_is_in_no_picture(widget):
    line = Line(RANK, RANK, "line", "c1", width=4)
    widget.show_figure(Figure(((Panel(Axis("x"), Axis("y"), (line,)),),)))
    shown = as_array(pictures.render(widget, 1.0))[60:]
    widget.canvas.toggle("line")
    hidden = as_array(pictures.render(widget, 1.0))[60:]
    inked = [((p[:, :, 0] > 180) & (p[:, :, 2] < 60)).sum() for p in (shown, hidden)]
    assert inked[0] > 500
    assert inked[1] == 0


def test_copied_to_the_clipboard_at_twice_the_size(widget, qapp):
    widget.show_figure(grid(2, 2))
    pictures.copy_image(widget)
    copied = qapp.clipboard().image()
    assert copied.width() == 2 * widget.canvas.width()
    assert np.array_equal(as_array(copied), as_array(pictures.render(widget, 2.0)))


def test_an_unknown_format_is_refused(widget, tmp_path):
    with pytest.raises(UserError, match="choose pdf, svg"):
        pictures.save(widget, tmp_path / "figure.bmp")
    assert list(tmp_path.iterdir()) == []


# Files that cannot be written


@pytest.fixture
def full_disk():
    """Files may not grow beyond 100 bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png", "csv", "npz", "py"])
def test_a_full_disk_leaves_the_old_file_and_no_other(widget, tmp_path, full_disk, suffix):
    path = tmp_path / f"figure.{suffix}"
    path.write_bytes(b"the old one")
    widget.show_figure(mixed())
    with pytest.raises(UserError, match=f"“figure.{suffix}” could not be saved") as caught:
        pictures.save(widget, path)
    assert "make room" in caught.value.message
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is read-only for everyone, even for root")
def test_a_read_only_folder_is_one_clear_sentence(tmp_path):
    with pytest.raises(UserError, match=r"could not be saved in “/proc”: .*Choose another folder"):
        write(Path("/proc/figure.csv"), b"x")
    with pytest.raises(UserError, match="could not be saved"):
        write(tmp_path / "no such folder" / "figure.csv", b"x")


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "figure.csv"
    write(path, b"first")
    write(path, b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in tmp_path.iterdir()] == ["figure.csv"]
