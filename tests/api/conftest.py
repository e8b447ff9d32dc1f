"""An application without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from api_harness import Api


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """One that nobody uses: the others are made from it."""
    made = Api(tmp_path_factory.mktemp("first"))
    made.store.free_epoch(1)
    made.store.close()
    return made


@pytest.fixture
def api(tmp_path: Path, first: Api) -> Api:
    """The API over a store of its own."""
    return Api(tmp_path, app=first.app)


@pytest.fixture(scope="session")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """One for all tests of what is refused: it stays as it was."""
    return Api(tmp_path_factory.mktemp("refusing"))


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """One with a run that refuses what it is asked."""
    api = Api(tmp_path_factory.mktemp("running"))
    api.running()
    return api
