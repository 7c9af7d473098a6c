"""The help page of what opens is what the code's own tables say."""

from engine.analyses.opens import page
from engine.models.adapters import ADAPTERS
from engine.resources import RESOURCES


def test_the_page_is_made_of_the_tables() -> None:
    text = page()
    assert all(f"`{model_type}`" in text for model_type in ADAPTERS)
    assert (RESOURCES / "help" / "opens.md").read_text("utf-8") == text, "the tables have changed: run `make opens`"
