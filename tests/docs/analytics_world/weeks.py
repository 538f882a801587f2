"""The eight weeks, lived through the services on a real database; the same seed gives the same rows to the last bit."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Final

from sqlalchemy import Connection, Engine, text

from demo.reactions import Reaction
from oo_ml.services.decisions.decide import Candidate
from oo_ml.services.prompts.registry import draft, publish
from oo_ml.storage import generations
from oo_ml.storage.generations import GenerationRow, TipRow
from oo_ml.storage.postgres.sessions import Writing
from tests import simulated_weeks
from tests.candidates import build_candidate
from tests.docs.analytics_world.users import (
    FIRST_STEP,
    REMINDER,
    USERS,
    VERSIONS,
    WEEKS,
    Situation,
    compute_done_rates,
    draw_situations,
)
from tests.policies import Parameters
from tests.sessions import writing
from tests.simulated_weeks import Look, draw_uuid7

EXPLORING: Final = Parameters(alpha=1.0, epsilon=0.2, exploration=0.2)
_DESCRIPTIONS: Final = {REMINDER: "What has waited longest", FIRST_STEP: "A first step of what matters most"}
_TOKENS: Final = {REMINDER: 180, FIRST_STEP: 420}


def simulate(db: Engine, seed: int = 2, parameters: Parameters = EXPLORING) -> None:
    """Publish two prompt versions, store the calls that wrote their tips, and let every user live.

    Seeds 1 to 8 were tried: with each the raw rates pick the wrong version, the weighted ones the right one.
    """
    random = Random(seed)  # noqa: S311 - simulated lives, not secrets
    rounds = draw_situations(random)
    with writing(db) as connection:
        _publish(connection, rounds[0][0].at)
        _insert_generations(connection, [situations[0].at for situations in rounds[:: len(rounds) // WEEKS]], random)
    looks = ([_draw_look(situation, random) for situation in situations] for situations in rounds)
    simulated_weeks.simulate(db, looks, parameters)
    with writing(db) as connection:
        _insert_truth(connection, compute_done_rates(rounds))


def _draw_look(situation: Situation, random: Random) -> Look:
    at = situation.at
    # In any order, because the first of equals is chosen.
    versions = VERSIONS if random.random() < 0.5 else VERSIONS[::-1]
    candidates = [
        build_candidate(_name_tip(version, at), "llm", situation.task(version), version) for version in versions
    ]

    def react(tip: Candidate) -> tuple[Reaction, timedelta] | None:
        return situation.react(str(tip.prompt_version), random)

    return Look(situation.user.user_id, situation.user.policy, at, draw_uuid7(at, random), candidates, react, share=0.5)


def _publish(connection: Writing, at: datetime) -> None:
    drafted = partial(draft, system_template="You write tips.", user_template="Write {{ n }}.", published_at=at)
    publish(connection, [drafted(version=version, description=text) for version, text in _DESCRIPTIONS.items()])


def _insert_generations(connection: Writing, mornings: Sequence[datetime], random: Random) -> None:
    """Insert a call a week by each version for each user.

    As rows, not through the service: the time that a call of a model takes is never the same twice.
    """
    for at in mornings:
        for user in USERS:
            for version in VERSIONS:
                is_failed = random.random() < 0.02
                attempts = 3 if is_failed else 1 + (random.random() < 0.1)
                row = GenerationRow(
                    user_id=user.user_id,
                    generation_id=draw_uuid7(at, random),
                    prompt_version=version,
                    prompt_probability=1.0,
                    created_at=at,
                    latency_ms=attempts * (400 + int(900 * random.random())),
                    prompt_tokens=attempts * _TOKENS[version],
                    completion_tokens=attempts * (60 + int(40 * random.random())),
                    requested=7,
                    attempts=attempts,
                    outcome="invalid_reply" if is_failed else "ok",
                    model="simulated",
                    error="not the JSON array asked for" if is_failed else None,
                )
                generations.insert_generation(connection, row, [] if is_failed else _write_tips(row))


def _write_tips(row: GenerationRow) -> list[TipRow]:
    """Return a tip for each day of the week."""
    shared = (row.generation_id, row.prompt_version, row.prompt_probability, row.created_at)
    days = (row.created_at + timedelta(days=day) for day in range(row.requested))
    return [
        TipRow(row.user_id, _name_tip(row.prompt_version, at), *shared, place, "A simulated tip", None)
        for place, at in enumerate(days)
    ]


def _name_tip(version: str, at: datetime) -> str:
    return f"{version}-{at:%m%d}"


def _insert_truth(connection: Connection, rates: Mapping[str, float]) -> None:
    """Insert the true rates, which a simulation knows and an analyst does not."""
    for statement in (
        "CREATE SCHEMA simulation",
        "CREATE TABLE simulation.truth (prompt_version text PRIMARY KEY, done_rate float8)",
        "GRANT USAGE ON SCHEMA simulation TO PUBLIC",
        "GRANT SELECT ON simulation.truth TO PUBLIC",
    ):
        connection.execute(text(statement))
    rows = [{"version": version, "rate": rate} for version, rate in rates.items()]
    connection.execute(text("INSERT INTO simulation.truth VALUES (:version, :rate)"), rows)
