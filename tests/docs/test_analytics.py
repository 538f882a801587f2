"""The blocks of docs/guides/analytics.md, run in order on the simulated weeks, print what the page shows.

REWRITE_DOCS=1 .venv/bin/pytest -m slow tests/docs/test_analytics.py writes the current outputs into the page.
"""

import asyncio
import os
import re
import shlex
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Connection, Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.embedded_postgres import binaries
from oo_ml.services.database import single_worker
from oo_ml.services.upkeep.daily_sums import count_days
from oo_ml.storage.postgres import engine
from tests.conftest import ANALYST, MIGRATOR, as_role, clone_database, make_settings
from tests.docs.analytics_world import weeks
from tests.docs.analytics_world.users import REMINDER
from tests.docs.pages import align
from tests.policies import Parameters
from tests.sessions import writing
from tests.waiting import until

DOCS: Final = Path(__file__).parents[2] / "docs" / "guides" / "analytics.md"
BLOCK: Final = re.compile(r"(?<=```)(sql|sh)\n(.*?)```\n\n```text\n(.*?)(?=```)", re.DOTALL)
# Drawing at random, judged from the log of each policy.
EVALUATED: Final = """
    SELECT
        policy,
        CAST(analytics.ips(reward, 1.0 / candidates, propensity, user_id) AS text) AS ips,
        CAST(analytics.snips(reward, 1.0 / candidates, propensity, user_id) AS text) AS snips,
        CAST(analytics.dr(reward, 0.4, 0.4, 1.0 / candidates, propensity, user_id) AS text) AS dr,
        analytics.ess(1.0 / candidates, propensity, user_id) AS size,
        analytics.mean_weight(1.0 / candidates, propensity) AS mean_weight
    FROM analytics.tip_scores
    GROUP BY policy
"""
PSQL: Final = ("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
# The page grants rights to this role. Another process of the test run may have created it.
ANA: Final = """
    DO $$ BEGIN CREATE ROLE ana LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$
"""


@dataclass(frozen=True, slots=True)
class Lived:
    """A database on which the simulated weeks were lived, as its owner and as an analyst."""

    owner_url: str
    analyst_url: str


@contextmanager
def lived(server: Any, name: str, parameters: Parameters) -> Iterator[tuple[Engine, Lived]]:  # noqa: ANN401 - of pytest-postgresql
    """Live the weeks with these parameters in a database of their own."""
    with clone_database(server, name):
        address = f"{name}?host={server.host}&port={server.port}"
        url = f"postgresql://{server.user}@/{address}"
        db = engine.create(url, make_settings(), threads=2)
        try:
            weeks.simulate(db, parameters=parameters)
            yield db, Lived(url, f"postgresql://{ANALYST}@/{address}")
        finally:
            db.dispose()


@pytest.fixture(scope="module")
def simulated(postgresql_noproc: Any, worker_id: str) -> Iterator[Lived]:  # noqa: ANN401 - of pytest-postgresql
    """Live the weeks with exploration, and count their decisions."""
    with lived(postgresql_noproc, f"docs_{worker_id}", weeks.EXPLORING) as (db, found):
        with writing(db) as connection:
            connection.execute(text(ANA))
        until(partial(_is_counted, db, found.owner_url))
        yield found


@pytest.fixture(params=[0.0, 0.2])
def unexplored(
    request: pytest.FixtureRequest,
    postgresql_noproc: Any,  # noqa: ANN401 - of pytest-postgresql
    worker_id: str,
) -> Iterator[tuple[float, Engine]]:
    """Live the weeks with exploration 0; return the epsilon of epsilon-greedy, and the database."""
    parameters = replace(weeks.EXPLORING, exploration=0.0, epsilon=request.param)
    with lived(postgresql_noproc, f"docs_unexplored_{worker_id}", parameters) as (db, _):
        yield request.param, db


@pytest.mark.slow
def test_weeks_without_exploration(unexplored: tuple[float, Engine]) -> None:
    """The same weeks with exploration 0 give no weighted number, but for the decisions of a policy that explores."""
    epsilon, db = unexplored
    with writing(db) as connection:
        for view in ("reaction_rates", "reaction_rates_by_day"):
            rows = connection.execute(text(f"SELECT * FROM analytics.{view}")).mappings().all()  # noqa: S608 - ours
            explored = [row for row in rows if row["policy"] == EPSILON_GREEDY and row["grouped_by"] == "both"]
            unknown = rows if epsilon == 0 else [row for row in rows if row not in explored]
            assert {
                name for row in unknown for name, value in row.items() if is_weighted(name) and value is not None
            } == set()
            assert all(row["unknown_because"] for row in unknown)
            assert all(row["done_rate"] is not None for row in rows)
            if view == "reaction_rates" and epsilon:
                assert_true_rates(connection, {row["prompt_version"]: dict(row) for row in explored})
        values = connection.execute(text("SELECT policy, gain, unknown_because FROM analytics.policy_values")).all()
        assert {row.policy for row in values if row.gain is not None} == ({EPSILON_GREEDY} if epsilon else set())
        health = connection.execute(text("SELECT * FROM analytics.loop_health_between(NULL, NULL)"))
        assert {row.policy: row.status for row in health if row.check_name == "unsupported_share"} == {
            LINUCB: "amber",
            EPSILON_GREEDY: "green" if epsilon else "amber",
        }
        for row in connection.execute(text(EVALUATED)):
            is_known = row.policy == EPSILON_GREEDY and bool(epsilon)
            for estimate in (row.ips, row.snips, row.dr):
                assert ("no chance" in estimate) is not is_known
            assert (row.size is not None) is is_known
            assert row.mean_weight == pytest.approx(1.0 if is_known else 0.5, abs=0.1)


def is_weighted(name: str) -> bool:
    """Return whether a column of reaction_rates is a weighted number."""
    return "weighted" in name or name == "effective_sample_size"


def assert_true_rates(connection: Connection, rates: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that the interval of each version's weighted rate contains the true rate."""
    known = connection.execute(text("SELECT prompt_version, done_rate FROM simulation.truth")).all()
    assert len(known) == len(rates) == 2
    for version, rate in known:
        assert rates[version]["done_weighted_low"] < rate < rates[version]["done_weighted_high"]


@pytest.mark.slow
def test_output_of_blocks(simulated: Lived) -> None:
    """Each block prints the output below it, but for spaces at the ends of lines; SQL runs as an analyst."""
    written = DOCS.read_text("utf-8")
    found = BLOCK.sub(
        lambda block: f"{block[1]}\n{block[2]}```\n\n```text\n{_run(simulated, block[1], block[2])}", written
    )
    if os.environ.get("REWRITE_DOCS"):
        DOCS.write_text(found, "utf-8")
    else:
        assert written == found


def test_blocks_without_output() -> None:
    """Every block of SQL or shell has an output, and there are more than twelve."""
    written = DOCS.read_text("utf-8")
    assert len(BLOCK.findall(written)) == len(re.findall(r"^```(?:sql|sh)$", written, re.MULTILINE)) > 12


@pytest.mark.slow
def test_weighted_rates_against_raw_rates(simulated: Lived) -> None:
    """Raw rates favour the worse version, weighted rates the better; intervals of weighted rates contain the truth."""
    db = engine.create(simulated.owner_url, make_settings(), threads=1)
    with writing(db) as connection:
        asked = text("SELECT * FROM analytics.reaction_rates WHERE grouped_by = 'prompt_version'")
        rates = {str(row["prompt_version"]): dict(row) for row in connection.execute(asked).mappings()}
        assert_true_rates(connection, rates)
    db.dispose()
    worse, better = sorted(rates.values(), key=lambda row: float(row["done_weighted_rate"]))
    assert worse["prompt_version"] == REMINDER
    assert worse["done_low"] > better["done_high"]
    assert worse["done_weighted_high"] < better["done_weighted_low"]


def _run(simulated: Lived, language: str, block: str) -> str:
    """Run a block; return its output, aligned, without spaces at the ends of lines and empty lines at the ends."""
    command = [*PSQL, simulated.analyst_url] if language == "sql" else ["sh", "-e"]
    block = block.replace("postgresql://owner:...@db/oo_ml", shlex.quote(as_role(simulated.owner_url, MIGRATOR)))
    directories = [sysconfig.get_path("scripts"), str(binaries.find(None)), os.environ["PATH"]]
    patience = {f"OO_ML_{name}_TIMEOUT": "60" for name in ("DATABASE_CONNECT", "REQUEST", "STATEMENT")}
    environment = {
        "PATH": os.pathsep.join(directories),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "120",
        "PGTZ": "UTC",
        "OO_ML_DATABASE_URL": simulated.owner_url,
    }
    done = subprocess.run(  # noqa: S603 - what stands in our own docs
        command, input=block, env=environment | patience, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (block, done.stderr)
    return align(done.stdout).strip("\n") + "\n"


def _is_counted(db: Engine, url: str) -> bool:
    """Count, and return whether nothing is left. Transactions of other tests on this server can delay it."""
    with single_worker(make_settings(), url) as worker:
        asyncio.run(count_days(worker, datetime.now(UTC)))
    with writing(db) as connection:
        return not connection.scalar(text("SELECT count(*) FROM rollup.uncounted"))
