"""The help pages, in a window of their own."""

from PySide6.QtCore import Qt, QUrl, Slot
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QHBoxLayout, QTextBrowser, QVBoxLayout, QWidget

from engine.resources import RESOURCES
from gui.look.widgets import tool_button

PAGES = RESOURCES / "help"


class HelpPane(QWidget):
    """Shows a Markdown page of ``resources/help``; links lead from page to page."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setWindowTitle("Eigenscope help")
        self.resize(760, 780)
        self.browser = QTextBrowser(openExternalLinks=True)
        self.browser.setSearchPaths([str(PAGES)])
        self.browser.document().setDocumentMargin(12)
        line = QHBoxLayout()
        for text, tip, slot in (
            ("◀", "Back", self.browser.backward),
            ("▶", "Forward", self.browser.forward),
            ("Contents", "All help pages", self.contents),
        ):
            button = tool_button(text, tip)
            button.clicked.connect(slot)
            line.addWidget(button)
        line.addStretch(1)
        box = QVBoxLayout(self)
        box.addLayout(line)
        box.addWidget(self.browser)

    def show_page(self, name: str) -> None:
        """Show the page `name`, or the contents if there is no such page."""
        page = f"{name}.md" if (PAGES / f"{name}.md").exists() else "index.md"
        self.browser.setSource(QUrl(page), QTextDocument.ResourceType.MarkdownResource)

    @Slot()
    def contents(self) -> None:
        self.show_page("index")
