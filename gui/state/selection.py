"""The one selection that every view follows."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from engine.analyses.header import Header
from gui.plots.selection import Pick, Selection

if TYPE_CHECKING:
    import xarray as xr


class SelectionModel(QObject):
    """Holds the Selection; clicks set it, views listen to it."""

    changed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.current = Selection()

    def pick(self, pick: Pick) -> None:
        self.set(pick.applied_to(self.current))

    def set(self, selection: Selection) -> None:
        if selection != self.current:
            self.current = selection
            self.changed.emit(selection)

    def step(self, dataset: "xr.Dataset | None", model: int = 0, layer: int = 0, head: int = 0) -> None:
        """Move by so many models, layers and heads, and stay inside `dataset`."""
        if dataset is None:
            return
        infos = Header.of(dataset).models
        now = self.current
        at = min(max(now.model + model, 0), len(infos) - 1)
        sites = [str(name) for name in dataset["site"].values] if "site" in dataset.dims else []
        self.set(
            replace(
                now,
                model=at,
                layer=min(max(now.layer + layer, 0), infos[at].n_layers - 1),
                head=now.head if sites else min(max(now.head + head, 0), infos[at].n_heads - 1),
                site=_site(sites, now.site, head),
            )
        )

    def clamp(self, dataset: "xr.Dataset | None") -> None:
        """Bring the selection inside `dataset`."""
        self.step(dataset)

    def restore(self, state: Mapping[str, int]) -> None:
        """Select what was selected when the session was last open."""
        names = {field.name for field in fields(Selection)}
        self.set(Selection(**{name: int(index) for name, index in state.items() if name in names}))


def _site(sites: list[str], now: int, by: int) -> int:
    """Where a result has sites, they are walked in the place of heads; −1 stays the one that is shown first."""
    if not by or not sites:
        return now if now < len(sites) else -1
    first = sites.index("block") if "block" in sites else 0
    return min(max((now if now >= 0 else first) + by, 0), len(sites) - 1)
