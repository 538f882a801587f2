"""Prompt versions: how tests weigh, retire and pick them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from oo_ml.errors import OoMlError
from oo_ml.services.prompts.pick_version import PickCommand, VersionProbability, pick
from oo_ml.services.prompts.registry import WeighCommand, retire, weigh
from tests.conftest import make_settings
from tests.sessions import writing

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
V1, V2, V3 = "v1", "v2-mentor", "v3-few-shot"
# The 99.99th percentile with two degrees of freedom. The ids are fixed, so each run draws the same versions.
CHI_SQUARE = 18.4


def set_weights(db: Engine, **given: float) -> None:
    """Set weights of versions, named by the part before the hyphen."""
    names = {name.split("-")[0]: name for name in (V1, V2, V3)}
    with writing(db) as connection:
        outcomes = weigh(connection, [WeighCommand(names[name], weight) for name, weight in given.items()])
    assert [one.weight for one in outcomes if not isinstance(one, OoMlError)] == list(given.values())


def retire_version(db: Engine, version: str) -> None:
    """Retire a version."""
    with writing(db) as connection:
        retire(connection, [version], retired_at=NOON)


def pick_versions(
    db: Engine,
    numbers: Sequence[int],
    *,
    user_id: str = "ada",
    named: str | None = None,
    **settings: Any,  # noqa: ANN401
) -> list[tuple[str, float]]:
    """Pick a version for each generation; return versions and probabilities."""
    given = make_settings(**settings)
    with writing(db) as connection:
        commands = [PickCommand(user_id, UUID(int=number), NOON, named) for number in numbers]
        return [describe(outcome) for outcome in pick(connection, commands, settings=given)]


def describe(outcome: VersionProbability | OoMlError) -> tuple[str, float]:
    """Return version and probability; for a refusal, its message and 0."""
    if isinstance(outcome, OoMlError):
        return outcome.message, 0.0
    return outcome.prompt.version, outcome.probability
