"""What is selected, and what a click selects, as plain data."""

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Selection:
    """Indices into the dimensions of the current dataset; site −1 is its default site."""

    model: int = 0
    layer: int = 0
    head: int = 0
    sample: int = 0
    unit: int = 0
    site: int = -1


@dataclass(frozen=True)
class Pick:
    """The change of the selection made by a click on a mark; None leaves a field unchanged.

    `view` names another view of the same analysis that the click opens.
    """

    model: int | None = None
    layer: int | None = None
    head: int | None = None
    sample: int | None = None
    unit: int | None = None
    site: int | None = None
    view: str | None = None

    def applied_to(self, selection: Selection) -> Selection:
        """Return `selection` after the click."""
        changes = {f.name: v for f in fields(selection) if (v := getattr(self, f.name)) is not None}
        return replace(selection, **changes)
