"""The blocks of docs/guides/analytics.md, run in order on the simulated weeks, print what the page shows.

REWRITE_DOCS=1 .venv/bin/pytest tests/docs/test_analytics.py writes the current outputs into the page.
"""

import asyncio
import os
import re
import shlex
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Engine, text

from oo_ml.embedded_postgres import binaries
from oo_ml.services.database import single_worker
from oo_ml.services.upkeep.daily_sums import count_days
from oo_ml.storage.postgres import engine
from tests.conftest import ANALYST, MIGRATOR, as_role, clone_database, make_settings
from tests.docs.analytics_world import weeks
from tests.docs.pages import align
from tests.sessions import writing
from tests.waiting import until

DOCS: Final = Path(__file__).parents[2] / "docs" / "guides" / "analytics.md"
BLOCK: Final = re.compile(r"(?<=```)(sql|sh)\n(.*?)```\n\n```text\n(.*?)(?=```)", re.DOTALL)
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


@pytest.fixture(scope="module")
def simulated(postgresql_noproc: Any, worker_id: str) -> Iterator[Lived]:  # noqa: ANN401 - of pytest-postgresql
    """Live the weeks, and count their decisions."""
    server, name = postgresql_noproc, f"docs_{worker_id}"
    with clone_database(server, name):
        address = f"{name}?host={server.host}&port={server.port}"
        url = f"postgresql://{server.user}@/{address}"
        db = engine.create(url, make_settings(), threads=2)
        try:
            with writing(db) as connection:
                connection.execute(text(ANA))
            weeks.simulate(db)
            until(partial(_is_counted, db, url))
            yield Lived(url, f"postgresql://{ANALYST}@/{address}")
        finally:
            db.dispose()


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


def test_weighted_rates_against_raw_rates(simulated: Lived) -> None:
    """Raw rates favour the worse version, weighted rates the better; intervals of weighted rates contain the truth."""
    db = engine.create(simulated.owner_url, make_settings(), threads=1)
    with writing(db) as connection:
        asked = text("SELECT * FROM analytics.reaction_rates WHERE grouped_by = 'prompt_version'")
        rates = {row.prompt_version: row for row in connection.execute(asked)}
        known = connection.execute(text("SELECT prompt_version, done_rate FROM simulation.truth"))
        truth = {row.prompt_version: row.done_rate for row in known}
    db.dispose()
    worse, better = (rates[version] for version in sorted(truth, key=truth.__getitem__))
    assert worse.done_low > better.done_high
    assert worse.done_weighted_high < better.done_weighted_low
    for version, rate in truth.items():
        assert rates[version].done_weighted_low < rate < rates[version].done_weighted_high


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
