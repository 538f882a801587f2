"""A stage on which lives are played: a service that can be restarted, on a database that stays."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine

from oo_ml.services.startup import single_worker
from tests.services.life import SETTINGS, Life, Stage
from tests.services.notes import prepare


@pytest.fixture
def paper(db: Engine) -> None:
    """What scribes write on."""
    prepare(db)


@pytest.fixture
def stage(database_url: str, db: Engine) -> Iterator[Stage]:
    """A database, and a service on it."""
    with single_worker(SETTINGS, database_url) as worker, ExitStack() as running:
        yield Stage(database_url, db, worker, running)


@pytest.fixture
def life(stage: Stage) -> type[Life]:
    """Lives on that stage."""

    class LifeOnStage(Life):
        pass

    LifeOnStage.stage = stage
    return LifeOnStage
