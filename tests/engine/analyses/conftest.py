"""A session for the runs of one file of tests."""

from collections.abc import Iterator

import pytest

from engine.sessions.store import Session


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with Session.create(tmp_path_factory.mktemp("s") / "s.eigenscope") as session:
        yield session
