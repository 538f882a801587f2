"""Evaluations of the service's log, for tests."""

from typing import Any

from sqlalchemy import Engine, text

from oo_ml.domain.evaluation.targets import Target, describe
from oo_ml.services.evaluation.from_log import Question, evaluate, walk_log
from oo_ml.services.evaluation.results import Evaluation, Part, conclude
from oo_ml.storage.user_ranges import UserRange
from tests.conftest import make_settings
from tests.sessions import writing
from tests.superuser import superuser


def look(db: Engine, target: Target, **options: Any) -> Evaluation:  # noqa: ANN401 - as Question has them
    """Evaluate the whole log."""
    return conclude(describe(target), evaluate_log(db, target, **options))


def evaluate_log(db: Engine, target: Target, **options: Any) -> Part:  # noqa: ANN401 - as Question has them
    """Return the sum of the parts of the whole log."""
    return sum(walk_log(db, make_settings(), Question(target, **options)).parts, Part())


def rows(db: Engine, statement: str, **parameters: object) -> list[Any]:
    """Return the rows of a query."""
    with writing(db) as connection:
        return list(connection.execute(text(statement), parameters))


def run(db: Engine, statement: str, **parameters: object) -> None:
    """Change rows, as superuser."""
    with superuser(db) as connection:
        assert connection.execute(text(statement), parameters).rowcount, statement


def evaluate_ranges(db: Engine, target: Target, *users: UserRange, **options: Any) -> list[Part]:  # noqa: ANN401
    """Evaluate the decisions of ranges of users."""
    with writing(db) as connection:
        return evaluate(connection, users, question=Question(target), **options)
