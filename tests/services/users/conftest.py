"""Fixtures of the tests of users."""

import pytest
from sqlalchemy import Engine

from tests.services.sample_users import (
    create_users,
    export_user,
)


@pytest.fixture(scope="module")
def lives() -> dict[str, bytes]:
    """The exports that `life` has made so far; they are the same for every test."""
    return {}


@pytest.fixture
def life(lives: dict[str, bytes], request: pytest.FixtureRequest) -> bytes:
    """The export of ada."""
    if "ada" not in lives:
        db: Engine = request.getfixturevalue("db")
        create_users(db)
        lives["ada"] = export_user(db, "ada")
    return lives["ada"]
