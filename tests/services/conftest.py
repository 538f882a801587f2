"""Fixtures of simulated lives: a service that can be restarted, on a database that stays."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine

from oo_ml.services.database import single_worker
from tests.services.lives.state_machine import SETTINGS, Life, Stage


@pytest.fixture
def stage(database_url: str, db: Engine) -> Iterator[Stage]:
    """Return a service and its database."""
    with single_worker(SETTINGS, database_url) as worker, ExitStack() as running:
        yield Stage(database_url, db, worker, running)


@pytest.fixture
def life(stage: Stage) -> type[Life]:
    """Return the class of lives on that service."""

    class LifeOnStage(Life):
        pass

    LifeOnStage.stage = stage
    return LifeOnStage
