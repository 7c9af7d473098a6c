"""Carried out in a process of its own: opens a session in the window and goes through its checkpoints in every view.

Reports, as JSON, the GUI thread's own processor time in seconds from each step of the slider to the end of painting.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PySide6.QtCore import QCoreApplication, QEventLoop

from gui.app import start
from gui.state.compute_host import ComputeHost
from gui.state.runs import RunRow
from gui.window import MainWindow

WAIT_SECONDS = 60


def _nothing(*_: object) -> None:
    """Stands for what would talk to the compute process."""


def _shown(window: MainWindow, row: RunRow) -> bool:
    return window.results.row == row and window.results.dataset is not None


def until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError
        QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 10)


def main(path: Path) -> None:
    for name in ("start", "inspect"):  # nothing is computed here
        setattr(ComputeHost, name, _nothing)
    app, window = start([])
    until(lambda: window.workspace.panel.figure_area.plot is not None)
    window.file_commands.open_path(path)
    until(lambda: len(window.runs.rows) == 2)
    found: dict[str, list[float]] = {}
    for row in window.runs.rows:
        window.runs_pane.choose(row)
        until(partial(_shown, window, row))
        panel = window.workspace.page.panels[0]
        frames = window.timeline.frames
        for view in panel.views.values():
            panel.set_view(view.name)
            times: list[float] = []
            for _ in range(2):  # the first time round fills what is kept
                window.timeline.first()
                app.processEvents()
                times = []
                for _ in frames[1:]:
                    began = time.thread_time()
                    window.timeline.next()
                    app.processEvents()  # paints what has changed
                    times.append(time.thread_time() - began)
            found[f"{row.request.analysis} · {view.title}"] = times
    print(json.dumps(found), flush=True)
    window.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
