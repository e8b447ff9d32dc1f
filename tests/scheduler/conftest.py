"""The databases that the store runs on: the same tests on each of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import services

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[services.Postgres]:
    """One server for all tests; each has a database of its own on it."""
    with services.postgres() as service:
        yield service


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'loads.db'}"
    else:
        with request.getfixturevalue("postgres").database() as found:
            yield found
