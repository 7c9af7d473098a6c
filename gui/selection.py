"""The one selection that every view follows."""

from dataclasses import dataclass, fields, replace

from PySide6.QtCore import QObject, Signal


@dataclass(frozen=True)
class Selection:
    """What is looked at: indices into the current dataset's dimensions; site −1 is the one that it shows first."""

    model: int = 0
    layer: int = 0
    head: int = 0
    sample: int = 0
    unit: int = 0
    site: int = -1


@dataclass(frozen=True)
class Pick:
    """What a click on one mark sets; a field left None stays as it was."""

    model: int | None = None
    layer: int | None = None
    head: int | None = None
    sample: int | None = None
    unit: int | None = None
    site: int | None = None

    def applied_to(self, selection: Selection) -> Selection:
        """The selection after the click."""
        changes = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}
        return replace(selection, **changes)


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
