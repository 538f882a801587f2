"""`python -m demo` starts the offline model, lives some weeks until today, and says what came of it.

Everything it starts is stopped again; its data stays in --data-dir. A second run begins with the same people afresh.
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

from demo.cast import PEOPLE
from demo.offline_model import Gateway, offline_model
from demo.people import Person
from demo.processes import DemoError
from demo.report import report, show_examples
from demo.stage import Stage
from demo.tips import write_tips
from demo.weeks import live
from oo_ml.errors import OoMlError
from oo_ml.services.audit.verify import verify_users
from oo_ml.services.container import Services, create_services, running
from oo_ml.services.database import database
from oo_ml.services.upkeep.daily_sums import count_days
from oo_ml.services.upkeep.scheduler import keep_months
from oo_ml.services.users.erase import erase
from oo_ml.settings import ResponseFormat, Settings

DEFAULT_DATA_DIR = platformdirs.user_data_path("oo-ml-demo", appauthor=False)
# So much is drawn at random that every panel of the page has something to say.
_EXPLORATION = 0.2
# A busy machine's processor is slow with a model, and with everything else.
_MODEL_SECONDS = 180.0
_PATIENCE_SECONDS = 30.0


def demo_settings(data_dir: Path, gateway: Gateway) -> Settings:
    """Return the settings of the demo: this machine's but for what makes it a demo."""
    return Settings(
        data_dir=data_dir,
        # Invented people have no business in a database that somebody else uses.
        database_url=None,
        exploration=_EXPLORATION,
        epsilon=_EXPLORATION,
        upkeep_interval=0,
        history_retention=None,
        statement_timeout=_PATIENCE_SECONDS,
        request_timeout=_PATIENCE_SECONDS,
        llm_response_format=ResponseFormat.JSON_SCHEMA,
        llm_timeout=_MODEL_SECONDS,
        litellm_url=gateway.base_url,
        litellm_master_key=SecretStr(gateway.key),
    )


def main(
    weeks: Annotated[int, typer.Option(min=1, max=520, help="Weeks to simulate, up to today")] = 12,
    people: Annotated[int, typer.Option(min=1, max=len(PEOPLE), help="How many people")] = len(PEOPLE),
    seed: Annotated[int, typer.Option(min=0, help="Of the people's days; model and service draw for themselves")] = 1,
    data_dir: Annotated[Path, typer.Option(help="Where the database and the log go")] = DEFAULT_DATA_DIR,
) -> None:
    """A day in the life of oO ML, without any account or key."""
    console = Console()
    try:
        data_dir = data_dir.absolute()
        data_dir.mkdir(parents=True, exist_ok=True)
        console.print("Starting the offline model (SmolLM2, 135 million parameters, on llama.cpp) and a PostgreSQL")
        with offline_model(data_dir / "offline-model.log") as gateway:
            settings = demo_settings(data_dir, gateway)
            with database(settings) as url:
                services = create_services(settings, url)
                asyncio.run(_play(services, PEOPLE[:people], 7 * weeks, np.random.default_rng(seed), console))
    except OoMlError as error:
        console.print("The demo failed.", style="red")
        console.print(f"{error}\nThe logs are in {data_dir}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    _say_how_to_go_on(console, data_dir)


async def _play(
    services: Services, people: tuple[Person, ...], days: int, rng: np.random.Generator, console: Console
) -> None:
    async with running(services):
        stage = Stage(services, people, days, datetime.now(UTC), rng, console)
        await _begin_afresh(stage)
        written = await write_tips(stage)
        console.print(
            "So small a model writes weak prose; what it shows is the way from a model to a tip. For example:"
        )
        show_examples(console, written)
        decisions = await live(stage, written)
        await report(stage, written, decisions)
        await _finish(stage)


async def _begin_afresh(stage: Stage) -> None:
    """Erase what an earlier run knew of these people, and make the months that they will live in."""
    await stage.services.long.run(erase, [person.user_id for person in PEOPLE])
    for day in range(0, stage.days, 28):
        await keep_months(stage.services.long, stage.services.settings, stage.moment(day, 0).at)


async def _finish(stage: Stage) -> None:
    """Add up the days, and prove that every model is what its ledger says.

    Raises:
        DemoError: one is not.
    """
    await count_days(stage.services.long, stage.now)
    reports = await stage.services.long.run(verify_users, [person.user_id for person in stage.people])
    for difference in (one.difference for one in reports if one.difference is not None):
        raise DemoError(f"{difference.user_id} does not verify: {difference.sentence}")
    decisions, changes = sum(one.decisions for one in reports), sum(one.entries for one in reports)
    stage.console.print(
        f"Verified: {decisions:,} decisions and {changes:,} rewards of {len(reports)} people; every model is, bit for"
        " bit, what its ledger adds up to.",
        highlight=False,
    )


def _say_how_to_go_on(console: Console, data_dir: Path) -> None:
    program = Path(sys.executable).with_name("oo-ml")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    command = f"OO_ML_DATA_DIR={shlex.quote(str(data_dir))} {shlex.quote(str(program))} serve"
    lines = (
        f"The data is in {data_dir}. To start the service on it:",
        f"  {command} --host 127.0.0.1 --port 8000",
        "Then there is something to see at",
        "  http://127.0.0.1:8000/dashboard",
        f"  http://127.0.0.1:8000/dashboard/user?id={PEOPLE[0].user_id}",
    )
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    # An ordinary kill, too, stops what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    typer.run(main)
