"""`python -m demo` starts the offline model, lives some weeks until today, and prints the results.

Everything it starts is stopped again; its data stays in --data-dir. A second run begins with the same users afresh.
"""

import asyncio
import shlex
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import platformdirs
import typer
from pydantic import SecretStr
from rich.console import Console

from demo import news
from demo.cast import USERS
from demo.offline_model import Gateway, offline_model
from demo.processes import DemoError
from demo.report import report, show_examples
from demo.stage import Stage
from demo.tips import write_tips
from demo.users import User
from demo.weeks import simulate
from oo_ml.errors import OoMlError
from oo_ml.services.audit.verify import verify_users
from oo_ml.services.container import Services, create_services, running
from oo_ml.services.database_address import database
from oo_ml.services.upkeep.daily_sums import count_days
from oo_ml.services.upkeep.partitions import keep_months
from oo_ml.services.users.erase import erase
from oo_ml.setting_choices import ResponseFormat
from oo_ml.settings import Settings

DEFAULT_DATA_DIR = platformdirs.user_data_path("oo-ml-demo", appauthor=False)
# Enough decisions are drawn at random to fill every panel of the page.
_EXPLORATION = 0.2
# On a busy machine the model is slow, and so is everything else.
_MODEL_SECONDS = 180.0
_PATIENCE_SECONDS = 30.0


def make_settings(data_dir: Path, gateway: Gateway) -> Settings:
    """Return the settings of this machine with those that the demo needs."""
    return Settings(
        data_dir=data_dir,
        # Invented users must not get into a database that is used for real ones.
        database_url=None,
        exploration=_EXPLORATION,
        epsilon=_EXPLORATION,
        upkeep_interval=0,
        history_retention=None,
        statement_timeout=_PATIENCE_SECONDS,
        request_timeout=_PATIENCE_SECONDS,
        llm_response_format=ResponseFormat.JSON_SCHEMA_BOUNDED,
        llm_timeout=_MODEL_SECONDS,
        litellm_url=gateway.base_url,
        litellm_master_key=SecretStr(gateway.key),
    )


def main(
    weeks: Annotated[int, typer.Option(min=1, max=520, help="Weeks to simulate, up to today")] = 12,
    users: Annotated[int, typer.Option(min=1, max=len(USERS), help="How many users")] = len(USERS),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the users' draws only")] = 1,
    data_dir: Annotated[Path, typer.Option(help="Where the database and the log go")] = DEFAULT_DATA_DIR,
) -> None:
    """Live some simulated weeks, up to today, without any account or key. Replaces the data of an earlier run."""
    console = Console()
    try:
        data_dir = data_dir.absolute()
        data_dir.mkdir(parents=True, exist_ok=True)
        console.print("Starting the offline model (SmolLM2, 135 million parameters, on llama.cpp) and a PostgreSQL")
        with offline_model(data_dir / "offline-model.log") as gateway:
            settings = make_settings(data_dir, gateway)
            with database(settings) as url:
                services = create_services(settings, url)
                asyncio.run(_play(services, USERS[:users], 7 * weeks, np.random.default_rng(seed), console))
                news.live(data_dir, url, seed, console)
    except OoMlError as error:
        console.print("The demo failed.", style="red")
        console.print(f"{error}\nThe logs are in {data_dir}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    _print_next_steps(console, data_dir)


async def _play(
    services: Services, users: tuple[User, ...], days: int, rng: np.random.Generator, console: Console
) -> None:
    async with running(services):
        stage = Stage(services, users, days, datetime.now(UTC), rng, console)
        await _erase_earlier_run(stage)
        written = await write_tips(stage)
        console.print("So small a model writes weak prose, but it shows the way from a model to a tip. For example:")
        show_examples(console, written)
        decisions = await simulate(stage, written)
        await report(stage, written, decisions)
        await _finish(stage)


async def _erase_earlier_run(stage: Stage) -> None:
    """Erase these users' data of an earlier run, and create the months in which they will live."""
    await stage.services.long.run(erase, [*(user.user_id for user in USERS), *news.READER_IDS])
    for day in range(0, stage.days, 28):
        await keep_months(stage.services.long, stage.services.settings, stage.moment(day, 0).at)


async def _finish(stage: Stage) -> None:
    """Add up the days, and prove that every model follows from its ledger.

    Raises:
        DemoError: a model differs from its ledger.
    """
    await count_days(stage.services.long, stage.now)
    reports = await stage.services.long.run(verify_users, [user.user_id for user in stage.users])
    for difference in (one.difference for one in reports if one.difference is not None):
        raise DemoError(f"{difference.user_id} does not verify: {difference.sentence}")
    decisions, changes = sum(one.decisions for one in reports), sum(one.entries for one in reports)
    stage.console.print(
        f"Verified: {decisions:,} decisions and {changes:,} rewards of {len(reports)} users; every model equals,"
        " bit for bit, the fold of its ledger.",
        highlight=False,
    )


def _print_next_steps(console: Console, data_dir: Path) -> None:
    program = Path(sys.executable).with_name("oo-ml")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    command = f"OO_ML_DATA_DIR={shlex.quote(str(data_dir))} {shlex.quote(str(program))} serve"
    lines = (
        f"The data is in {data_dir}. To start the service on it:",
        f"  {command} --host 127.0.0.1 --port 8000",
        "Then open",
        "  http://127.0.0.1:8000/dashboard",
        f"  http://127.0.0.1:8000/dashboard/user?id={USERS[0].user_id}",
        f"  http://127.0.0.1:8000/dashboard/user?id={news.READER_IDS[0]}",
    )
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    # An ordinary kill, too, stops what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    typer.run(main)
