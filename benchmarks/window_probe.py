"""Carried out in a process of its own: opens the window as `main.py` does and reports, as JSON, what it measures.

``python -m benchmarks.window_probe paint`` ends at the first paint; ``… run`` goes on to a whole run of the built-in
model while somebody walks through heads and views.
"""

import json
import sys
import time
from itertools import cycle

from PySide6.QtCore import QObject, Qt, QTimer, Slot

from gui.app import start
from gui.window import MainWindow

HEAVY = ("torch", "transformers", "datasets", "xarray", "zarr", "pyqtgraph", "matplotlib", "scipy")
TICK_MS = 5
WALK_MS = 250


class StallProbe(QObject):
    """A timer that should fire every 5 ms: how much later it fires is how long the GUI thread was not there.

    `busy` is the processor time that the GUI thread itself spent in one such gap: unlike the gap, it does not grow when
    other programs have the processor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gaps: list[float] = []
        self.busy: list[float] = []
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)

    def begin(self) -> None:
        self._last, self._last_busy = time.perf_counter(), time.thread_time()
        self._timer.start(TICK_MS)

    def end(self) -> None:
        self._timer.stop()

    @Slot()
    def _tick(self) -> None:
        now, busy = time.perf_counter(), time.thread_time()
        self.gaps.append(max(0.0, now - self._last - TICK_MS / 1000))
        self.busy.append(busy - self._last_busy)
        self._last, self._last_busy = now, busy


class Visit(QObject):
    """Somebody who runs the built-in model and looks around while it runs."""

    def __init__(self, window: MainWindow) -> None:
        super().__init__()
        self.window, self.probe = window, StallProbe()
        self.outcome = ""
        self._views = cycle(window.workspace.panel.views)
        self._walk = QTimer(self)
        self._walk.timeout.connect(self._look_around)
        self._steps = 0
        window.ready.connect(self._begin)
        window.runs.ended.connect(self._ended)

    @Slot()
    def _begin(self) -> None:
        QTimer.singleShot(500, self._run)

    @Slot()
    def _run(self) -> None:
        self.probe.begin()
        self._walk.start(WALK_MS)
        self.window.run_commands.run()

    @Slot()
    def _look_around(self) -> None:
        self._steps += 1
        if self.window.results.dataset is not None and self._steps % 4 == 0:
            self.window.workspace.panel.set_view(next(self._views))
        elif self._steps % 2:
            self.window.navigation.next_layer()
        else:
            self.window.navigation.next_head()

    @Slot(object)
    def _ended(self, row: object) -> None:
        self.outcome = row.state  # type: ignore[attr-defined]
        QTimer.singleShot(500, self._leave)

    @Slot()
    def _leave(self) -> None:
        self._walk.stop()
        self.probe.end()
        self.window.close()


def main(what: str) -> None:
    app, window = start([])
    painted: dict[str, object] = {}

    def note() -> None:
        painted.update(painted=time.time(), cpu=time.process_time(), heavy=[m for m in HEAVY if m in sys.modules])
        if what == "paint":
            QTimer.singleShot(0, window.close)

    window.painted.connect(note)
    visit = Visit(window) if what == "run" else None
    app.exec()
    if visit:
        gaps, busy = sorted(visit.probe.gaps), sorted(visit.probe.busy)
        painted |= {
            "outcome": visit.outcome,
            "torch": "torch" in sys.modules,
            "longest_gap": gaps[-1],
            "p99_gap": gaps[int(0.99 * len(gaps))],
            "longest_busy": busy[-1],
            "over_50_ms": sum(b > 0.05 for b in busy),
            "ticks": len(gaps),
        }
    print(json.dumps(painted))


if __name__ == "__main__":
    main(sys.argv[1])
