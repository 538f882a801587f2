"""The daily tables are what the decisions themselves add up to, however late a reward came, and however it changed."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.features import Moment, Task
from oo_ml.domain.learning import Kind
from oo_ml.domain.policies import DIMENSIONS, EPSILON_GREEDY
from oo_ml.services.book import Book
from oo_ml.services.days import Days, count_days
from oo_ml.services.erase import erase
from oo_ml.services.reset import reset
from oo_ml.services.reward import CorrectCommand, DecisionRewardCommand, correct, learn
from oo_ml.services.score import DecideCommand, Parameters, decide
from oo_ml.services.startup import single_worker
from oo_ml.storage.history import DecisionKey
from tests.candidates import Candidate
from tests.conftest import Serve, make_settings
from tests.services import story
from tests.waiting import until

NOW = datetime.now(UTC)
PARAMETERS = Parameters(alpha=1.0, epsilon=0.4, exploration=0.3)

# What each table is to hold: one reading of the decisions as they are now, without a word about changes.
SCRATCH = {
    "reactions": """
        SELECT
            day, policy, prompt_version, exploring, reaction, count(*), sum(r), sum(r * r),
            sum(w), sum(ww), sum(wr), sum(wwr), sum(wwrr)
        FROM (
            SELECT
                *, CAST(1 / p AS numeric) AS w, CAST(1 / p * (1 / p) AS numeric) AS ww,
                CAST(1 / p * reward AS numeric) AS wr, CAST(1 / p * (1 / p) * reward AS numeric) AS wwr,
                CAST(1 / p * (1 / p) * reward * reward AS numeric) AS wwrr, CAST(reward AS numeric) AS r
            FROM seen
        ) AS weighed
        GROUP BY day, policy, prompt_version, exploring, reaction
    """,
    "learning": """
        SELECT
            day, policy, first_pull, count(*), count(reward),
            sum(CAST(reward AS numeric)), sum(CAST(reward * reward AS numeric))
        FROM (
            SELECT *, CASE WHEN pull < 100 THEN pull ELSE pull - pull % 10 END AS first_pull FROM seen WHERE pull > 0
        ) AS numbered
        GROUP BY day, policy, first_pull
    """,
    "delays": """
        SELECT day, policy, ceil(20 * log(2, CAST(1 + greatest(delay, 0) AS numeric))), count(*)
        FROM seen WHERE reaction NOT IN ('none', 'default') GROUP BY 1, 2, 3
    """,
    "exploration": """
        SELECT
            day, policy, count(*), count(*) FILTER (WHERE exploring), sum(CAST(exploration AS numeric)),
            sum(CAST(exploration * (1 - exploration) AS numeric)),
            sum(CAST(1 / propensity / n AS numeric)), sum(CAST(1 / propensity / n * (1 / propensity / n) AS numeric))
        FROM seen
        GROUP BY day, policy
    """,
}
SEEN = """
    WITH seen AS (
        SELECT
            *,
            CAST(decided_at AT TIME ZONE 'UTC' AS date) AS day,
            extract(epoch FROM rewarded_at - decided_at) AS delay,
            propensity * coalesce(prompt_probability, 1) AS p,
            CASE WHEN exploration > 0 THEN jsonb_array_length(candidates) ELSE 1 END AS n,
            CASE
                WHEN reward IS NULL THEN 'none' WHEN reward_kind = 'default' THEN 'default'
                WHEN reward = 1 THEN 'done' WHEN reward = 0.5 THEN 'helpful' WHEN reward = 0 THEN 'snooze'
                WHEN reward = -0.5 THEN 'not_helpful' WHEN reward = -1 THEN 'dismiss' ELSE 'other'
            END AS reaction
        FROM feature_history
    )
"""
KEYS = {"reactions": 5, "learning": 3, "delays": 3, "exploration": 2}


def from_scratch(db: Engine, table: str) -> list[tuple[Any, ...]]:
    """What a table is to hold; sums of no reward are 0."""
    with db.begin() as connection:
        rows = connection.execute(text(SEEN + SCRATCH[table]))
        return sorted(
            (tuple(value if value is not None or place == 2 else 0 for place, value in enumerate(row)) for row in rows),
            key=repr,
        )


def counted(db: Engine, table: str, source: str) -> list[tuple[Any, ...]]:
    """What a table or view holds, cells that were left by everybody apart."""
    keys = KEYS[table]
    with db.begin() as connection:
        rows = [tuple(row) for row in connection.execute(text(f"SELECT * FROM {source}"))]  # noqa: S608 - a name of ours
    cells: dict[Any, list[Any]] = {}
    for row in rows:
        cell = cells.setdefault(row[:keys], [0] * (len(row) - keys))
        for place, value in enumerate(row[keys:]):
            cell[place] += value
    assert all(not any(sums) for sums in cells.values() if not sums[0]), "a cell without decisions has sums"
    return sorted(((*key, *sums) for key, sums in cells.items() if sums[0]), key=repr)


def assert_right(db: Engine, prefix: str = "rollup.") -> None:
    """Every table, or with what is not counted yet, is what the decisions add up to, to the last digit."""
    for table in SCRATCH:
        assert normal(counted(db, table, prefix + table)) == normal(from_scratch(db, table)), table


def normal(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Numbers by value: 1.0 and 1.00 are one."""
    return [tuple(str(value) if isinstance(value, str | bool) else value for value in row) for row in rows]


def count(url: str, **limits: int) -> Days:
    """Count, as upkeep does."""
    with single_worker(make_settings(), url) as worker:
        return asyncio.run(count_days(worker, NOW, **limits))


def count_all(db: Engine, url: str, **limits: int) -> None:
    """Count until all is counted: other tests' transactions on this server hold it up."""

    def is_done() -> bool:
        count(url, **limits)
        return waiting(db) == 0

    until(is_done)


def waiting(db: Engine) -> int:
    """How much is not counted yet."""
    with db.begin() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM rollup.uncounted")) or 0)


class People:
    """Some people who do whatever can be done, at random."""

    def __init__(self, db: Engine, seed: int) -> None:
        self.db, self.made = db, list[tuple[str, UUID]]()
        self.random = Random(seed)  # noqa: S311 - lives, not secrets

    def live(self, moments: int) -> None:
        """Do so many things."""
        for _ in range(moments):
            self.random.choice(
                [self.decide, self.decide, self.react, self.react, self.correct, self.assume, self.reset]
            )()

    def decide(self) -> None:
        """Decide among two to four tips, some days ago."""
        user_id = self.random.choice(["ada", "ben", "zoë"])
        versions = self.random.choices([None, "v1", "v2-mentor"], k=self.random.randint(2, 4))
        decision_id = UUID(int=self.random.getrandbits(128))
        at = NOW - timedelta(days=self.random.randint(0, 3), seconds=self.random.randint(0, 5000))
        tips = [
            Candidate(f"t{n}", "s", Task(is_overdue=True, task_age_days=1.5, priority=1 + n % 4), version)
            for n, version in enumerate(versions)
        ]
        policy = self.random.choice(list(DIMENSIONS))
        with self.db.begin() as connection:
            decide(
                connection, [DecideCommand(user_id, policy, decision_id, at, Moment(9, 2), tips)], parameters=PARAMETERS
            )
        self.made.append((user_id, decision_id))

    def react(self) -> None:
        """React to a decision, or say it again."""
        if self.made:
            user_id, decision_id = self.random.choice(self.made)
            reward = self.random.choice([1.0, 0.5, 0.0, -0.5, -1.0, 0.1, -0.7])
            with self.db.begin() as connection:
                learn(
                    connection,
                    [DecisionRewardCommand(user_id, decision_id, self.tip(user_id, decision_id), reward, self.later())],
                )

    def correct(self) -> None:
        """Amend or retract."""
        if self.made:
            user_id, decision_id = self.random.choice(self.made)
            reward = self.random.choice([1.0, 0.0, -0.7, None])
            with self.db.begin() as connection:
                correct(connection, [CorrectCommand(user_id, decision_id, reward, self.later())])

    def assume(self) -> None:
        """Give a default reward."""
        if self.made:
            key = DecisionKey(*self.random.choice(self.made))
            with self.db.begin() as connection:
                book = Book.open(connection, decisions=[key])
                if book.decisions[key].is_open:
                    book.reward(book.decisions[key], -0.1, self.later(), kind=Kind.DEFAULT)
                    book.write(connection)

    def reset(self) -> None:
        """Start afresh, now and then."""
        if self.random.random() < 0.2:
            with self.db.begin() as connection:
                reset(connection, [self.random.choice(["ada", "ben"])])

    def later(self) -> datetime:
        """A moment after every decision, or on a clock that is behind."""
        return NOW + timedelta(seconds=self.random.randint(-400_000, 1000))

    def tip(self, user_id: str, decision_id: UUID) -> str:
        """The tip of a decision."""
        with self.db.begin() as connection:
            return str(
                connection.scalar(
                    text("SELECT tip_id FROM feature_history WHERE user_id = :u AND decision_id = :d"),
                    {"u": user_id, "d": decision_id},
                )
            )


@pytest.mark.parametrize("seed", range(3))
def test_counted_at_any_time_it_is_what_the_decisions_add_up_to(db: Engine, database_url: str, seed: int) -> None:
    """Late, amended, retracted, assumed rewards, resets; in steps of any size, and with the rest not counted yet."""
    people = People(db, seed)
    for limit in (1000, 3, 1000, 1):
        people.live(30)
        assert_right(db)
        count_all(db, database_url, limit=limit)
        assert_right(db)
        assert_right(db, "daily_")


def test_every_kind_of_change(db: Engine, database_url: str) -> None:
    """Two epochs, an import, late corrections; and what is counted is not counted again."""
    story.tell(db)
    assert_right(db)
    count_all(db, database_url)
    assert_right(db, "daily_")
    assert count(database_url) == Days(0)
    assert_right(db, "daily_")


def test_whoever_is_erased_is_taken_away(db: Engine, database_url: str) -> None:
    """What was counted of them, and what was not."""
    people = People(db, 7)
    people.live(60)
    count_all(db, database_url)
    people.live(30)
    with db.begin() as connection:
        erase(connection, ["ada", "nobody"])
    assert_right(db)
    count_all(db, database_url)
    assert_right(db, "daily_")


def test_a_transaction_under_way_is_not_overtaken(db: Engine, database_url: str) -> None:
    """A decision whose position is lower than one that is committed waits for its turn, and is not lost."""
    people = People(db, 1)
    people.decide()
    count_all(db, database_url)
    with db.connect() as slow, slow.begin():
        tip = [Candidate("t", "s", Task(is_overdue=True, task_age_days=1.0, priority=2))]
        command = DecideCommand("slow", EPSILON_GREEDY, UUID(int=1), NOW, Moment(9, 2), tip)
        decide(slow, [command], parameters=PARAMETERS)
        people.live(20)
        count(database_url)
        assert_right(db)
        assert waiting(db) > 5
    assert_right(db)
    count_all(db, database_url)
    assert_right(db, "daily_")


def test_a_step_under_way_is_nobody_elses(db: Engine, database_url: str) -> None:
    """The second does nothing and says so; an erasure waits."""
    People(db, 1).live(20)
    with db.connect() as first, first.begin():
        first.execute(text("SELECT FROM upkeep WHERE task = 'days' FOR UPDATE"))
        assert count(database_url) == Days(0, is_busy=True)

        def erase_ada() -> None:
            with db.begin() as connection:
                erase(connection, ["ada"])

        erasing = threading.Thread(target=erase_ada)
        erasing.start()
        erasing.join(0.3)
        assert erasing.is_alive()
    erasing.join(20)
    count_all(db, database_url)
    assert_right(db, "daily_")


def test_a_database_from_another_server_goes_on(db: Engine, database_url: str) -> None:
    """Its transactions had other numbers there, which say nothing here."""
    people = People(db, 3)
    people.live(20)
    count_all(db, database_url)
    people.live(20)
    with db.begin() as connection:
        connection.execute(text("UPDATE counted SET next_xid = 1 << 40"))
    count_all(db, database_url)
    count_all(db, database_url)
    assert_right(db, "daily_")


def test_whoever_doubts_the_tables_has_them_made_anew(db: Engine, database_url: str) -> None:
    """Without a word of how far they have come they begin at the beginning."""
    People(db, 4).live(30)
    count_all(db, database_url)
    with db.begin() as connection:
        connection.execute(text("UPDATE daily_reactions SET decisions = 7"))
        connection.execute(text("DELETE FROM counted WHERE source = 'reward_ledger'"))
    count_all(db, database_url)
    assert_right(db, "daily_")


def test_rewards_from_before_there_were_positions_count(db: Engine, database_url: str) -> None:
    """They all have position 0."""
    People(db, 5).live(40)
    with db.begin() as connection:
        connection.execute(text("UPDATE reward_ledger SET position = 0"))
    assert_right(db)
    count_all(db, database_url, limit=5)
    assert_right(db, "daily_")


def test_a_service_counts_by_itself(db: Engine, serve: Serve) -> None:
    """No command is needed."""
    People(db, 6).live(20)
    serve(upkeep_interval=0.1)
    until(lambda: bool(counted(db, "reactions", "daily_reactions")))
    assert_right(db)
