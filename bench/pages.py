"""Response times of the dashboard on the large database, before and after upkeep has updated the daily sums."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from statistics import median
from typing import Final

import httpx
from rich.console import Console

from bench import bodies
from bench.database import Database, one
from bench.errors import BenchError
from bench.load import Target
from bench.plan import Plan
from bench.service import Service
from oo_ml.progress import progress
from oo_ml.services.database import single_worker
from oo_ml.services.upkeep.daily_sums import count_days
from oo_ml.settings import Settings

_SECONDS: Final = 120
_LINES: Final = 10
_BATCH: Final = 100

# Three in five decisions, each with a reaction of its own that came within two days.
_REACT: Final = """
    INSERT INTO oo_ml.reward_ledger (user_id, policy, epoch, version, recorded_at, kind, reward, x, tip_id, decision_id)
    SELECT
        user_id, policy, epoch, row_number() OVER (PARTITION BY user_id, policy, epoch ORDER BY position),
        decided_at + interval '1 second' * (position * 7919 % 172800), 'reward',
        (ARRAY[1, 0.5, 0, -0.5, -1])[1 + position * 31 % 5], x, tip_id, decision_id
    FROM oo_ml.feature_history
    WHERE position % 5 < 3 AND reward IS NULL
"""

# One call of the model for every five decisions, most of which took half a second to five.
_CALL: Final = """
    INSERT INTO oo_ml.generations (
        user_id, generation_id, prompt_version, created_at, latency_ms, prompt_tokens, completion_tokens, requested,
        attempts, outcome
    )
    SELECT
        user_id, gen_random_uuid(), (ARRAY['v1', 'v2-mentor', 'v3-few-shot'])[1 + position / 5 %% 3], decided_at,
        500 + position * 7919 %% 4500, 300 + position %% 50, 100 + position %% 30, 3,
        1 + CAST(position %% 50 = 0 AS integer),
        'ok'
    FROM (
        SELECT user_id, decided_at, position FROM oo_ml.feature_history WHERE position %% 5 = 0 LIMIT %s
    ) AS every_fifth
"""

_PAGES: Final = (
    "/analytics/filters",
    "/analytics/reaction-rates{}",
    "/analytics/reaction-rates{}&by=policy",
    "/analytics/policy-values{}",
    "/analytics/policy-lift{}",
    "/analytics/policy-traffic-by-day{}",
    "/analytics/rewards-by-day{}",
    "/analytics/learning-curve{}",
    "/analytics/prior-history{}",
    "/analytics/learning-by-prior{}",
    "/analytics/prompt-costs{}",
    "/analytics/loop-health{}",
    "/analytics/prompt-costs?limit=1000",
    "/users/{user}/decisions",
)


@dataclass(frozen=True, slots=True)
class Pages:
    """The figures of the page.

    Attributes:
        rows: decisions, changes of rewards and calls of the model counted.
        seconds: that counting them took.
        questions: the request, and the median and the longest time of an answer in milliseconds: with everything
            counted, and with `waiting` decisions, and a fifth as many calls, not counted yet.
    """

    rows: int
    seconds: float
    waiting: int
    questions: Sequence[tuple[str, tuple[float, float], tuple[float, float]]]


def measure(target: Target, plan: Plan, console: Console) -> Pages:
    """Add rewards, count everything and ask; then make more decisions and ask again.

    The rewards are added to the ledger only, so no user of this database can be verified from here on.
    """
    service, database, user = target.service, target.database, target.open_decisions.first_user
    with database.connect() as connection:
        connection.execute(_REACT)
        connection.execute(_CALL, [None])
    with database.connect_as_superuser() as connection:
        connection.execute("VACUUM (ANALYZE) oo_ml.reward_ledger, oo_ml.generations")
    rows, seconds = _count(database, console)
    with database.connect_as_superuser() as connection:
        connection.execute(
            "VACUUM (ANALYZE) oo_ml.daily_reactions, oo_ml.daily_user_groups, oo_ml.daily_learning, oo_ml.daily_delays,"
            " oo_ml.daily_exploration, oo_ml.daily_costs, oo_ml.daily_latencies"
        )
    questions = _questions(database, user)
    counted = [_ask(service, question, plan.asked) for question in questions]
    _decide(service, user, plan.uncounted)
    with database.connect() as connection:
        connection.execute(_CALL, [plan.uncounted // 5])
    before = [_ask(service, question, plan.asked) for question in questions]
    return Pages(rows, seconds, plan.uncounted, list(zip(questions, counted, before, strict=True)))


def _count(database: Database, console: Console) -> tuple[int, float]:
    """Count as upkeep does; return how much there was, and how long it took."""
    with database.connect() as connection:
        total = one(connection, "SELECT count(*) FROM oo_ml.feature_history")
        total += one(connection, "SELECT count(*) FROM oo_ml.reward_ledger")
        total += one(connection, "SELECT count(*) FROM oo_ml.generations")
    started = time.monotonic()
    with (
        single_worker(Settings(), database.url) as worker,
        progress(console.file, "Counting", 1, lines=_LINES) as advance,
    ):
        asyncio.run(count_days(worker, datetime.now(UTC)))
        advance(1)
    seconds = time.monotonic() - started
    with database.connect() as connection:
        if left := one(connection, "SELECT count(*) FROM rollup.uncounted"):
            raise BenchError(f"{left} rows were not counted")
    return total, seconds


def _questions(database: Database, user: int) -> list[str]:
    """Return the requests of a page: those of the last 28 days, and the rates of all time."""
    with database.connect() as connection:
        last: date = one(connection, "SELECT max(day) FROM oo_ml.daily_reactions")
    period = f"?since={date.fromordinal(last.toordinal() - 27)}&until={last}"
    return [page.format(period, user=user) for page in _PAGES] + ["/analytics/reaction-rates?limit=1000"]


def _ask(service: Service, question: str, repeats: int) -> tuple[float, float]:
    times = []
    with httpx.Client(base_url=service.url, timeout=_SECONDS, trust_env=False) as client:
        for _ in range(repeats):
            started = time.perf_counter()
            answer = client.get(question)
            times.append((time.perf_counter() - started) * 1000)
            if answer.status_code != httpx.codes.OK:
                raise BenchError(f"{question}: {answer.status_code} {answer.text[:200]}")
    return median(times), max(times)


def _decide(service: Service, first_user: int, decisions: int) -> None:
    score = bodies.score(10)
    with httpx.Client(base_url=service.url, timeout=_SECONDS, trust_env=False) as client:
        for start in range(0, decisions, _BATCH):
            items = ",".join(score.replace(bodies.USER, str(first_user + start + place)) for place in range(_BATCH))
            client.post(
                "/score/batch", content=f'{{"items":[{items}]}}', headers={"Content-Type": "application/json"}
            ).raise_for_status()
