"""The table that the services of these tests write to."""

import pytest
from sqlalchemy import Engine

from tests.execution.notes import prepare


@pytest.fixture
def paper(db: Engine) -> None:
    """Create the table of notes."""
    prepare(db)
