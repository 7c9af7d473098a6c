"""Settings remembered between starts: layout, recent sessions and models, theme."""

import os
from pathlib import Path
from typing import Any

from PySide6.QtCore import QByteArray, QSettings

from gui.plots.theme import Mode

RECENT = 10


class Settings:
    """Typed access to one QSettings store."""

    def __init__(self, store: QSettings) -> None:
        self.store = store

    @property
    def theme(self) -> Mode:
        value = self.store.value("theme", "system")
        return value if value in ("light", "dark") else "system"

    @theme.setter
    def theme(self, value: Mode) -> None:
        self.store.setValue("theme", value)

    @property
    def recent(self) -> list[Path]:
        """Sessions opened or saved, newest first, without those that no longer exist."""
        return [Path(p) for p in self._texts("recent") if os.path.exists(p)]

    def remember_session(self, path: Path) -> None:
        path = path.absolute()
        recent = [path, *(p for p in self.recent if p != path)][:RECENT]
        self.store.setValue("recent", [str(p) for p in recent])

    @property
    def models(self) -> list[str]:
        """Models the user has run, other than the built-in ones, newest first."""
        return self._texts("models")

    def remember_model(self, source: str) -> None:
        self.store.setValue("models", [source, *(m for m in self.models if m != source)][:RECENT])

    def _texts(self, key: str) -> list[str]:
        # An ini file returns a list of one as a string, and an empty list as None.
        value: Any = self.store.value(key, [])
        return [value] if isinstance(value, str) else list(value or [])

    def layout(self, name: str) -> QByteArray | None:
        value = self.store.value(f"layout/{name}")
        return value if isinstance(value, QByteArray) else None

    def save_layout(self, name: str, state: QByteArray) -> None:
        self.store.setValue(f"layout/{name}", state)

    def forget_layout(self) -> None:
        self.store.remove("layout")
