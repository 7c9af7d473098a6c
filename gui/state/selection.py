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
    """Holds the Selection: clicks set it, views follow it."""

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
        """Move by this many models, layers and heads, clamped to the extent of `dataset`."""
        if dataset is None:
            return
        infos = Header.of(dataset).models
        current = self.current
        index = min(max(current.model + model, 0), len(infos) - 1)
        sites = [str(name) for name in dataset["site"].values] if "site" in dataset.dims else []
        self.set(
            replace(
                current,
                model=index,
                layer=min(max(current.layer + layer, 0), infos[index].n_layers - 1),
                head=current.head if sites else min(max(current.head + head, 0), infos[index].n_heads - 1),
                site=_site(sites, current.site, head),
            )
        )

    def clamp(self, dataset: "xr.Dataset | None") -> None:
        """Clamp the selection to the extent of `dataset`."""
        self.step(dataset)

    def restore(self, state: Mapping[str, int]) -> None:
        """Restore the selection saved in a session."""
        names = {field.name for field in fields(Selection)}
        self.set(Selection(**{name: int(index) for name, index in state.items() if name in names}))


def _site(sites: list[str], current: int, step: int) -> int:
    """Step through the sites, which take the place of heads in a result that has them; −1 is the default site."""
    if not step or not sites:
        return current if current < len(sites) else -1
    first = sites.index("block") if "block" in sites else 0
    return min(max((current if current >= 0 else first) + step, 0), len(sites) - 1)
