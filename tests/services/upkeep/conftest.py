"""Fixtures of the tests of upkeep."""

import pytest
from sqlalchemy import Engine

from tests.services.upkeep.overdue_decisions import Decider


@pytest.fixture
def decider(db: Engine) -> Decider:
    """Return a source of decisions."""
    return Decider(db)
