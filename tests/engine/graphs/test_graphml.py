"""GraphML of what has no graphs; what it holds of a run is tested with the analysis."""

import pytest

from engine.errors import UserError
from engine.sessions.export import export
from engine.sessions.store import Session


def test_graphml_of_a_session_without_graphs_is_refused(tmp_path):
    with Session.create(tmp_path / "empty.eigenscope") as empty:
        pass
    with pytest.raises(UserError, match="no graphs"):
        export(empty.path, "graphml", tmp_path / "out")
