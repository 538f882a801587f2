"""`oo-ml upkeep`: all regular work, once, for cron. Run it as the owner of the tables."""

import asyncio
from datetime import UTC, datetime

import typer

from oo_ml.cli.logs import configure_logs
from oo_ml.services.database import single_worker
from oo_ml.services.database_address import database
from oo_ml.services.upkeep.daily_sums import count_days
from oo_ml.services.upkeep.default_rewards import give_default_rewards
from oo_ml.services.upkeep.partitions import keep_months
from oo_ml.settings import LogLevel, Settings


def upkeep() -> None:
    """Run the regular upkeep once: partitions, default rewards, daily sums.

    Makes the partitions of coming months, detaches months past OO_ML_HISTORY_RETENTION, gives default rewards to
    decisions past OO_ML_REWARD_WAIT, and updates the daily sums. Safe while the service is running. Exit code 1 if a
    task fails.
    """
    settings = Settings()
    configure_logs(settings, LogLevel.WARNING)
    with database(settings) as url, single_worker(settings, url) as worker:
        now = datetime.now(UTC)
        months = asyncio.run(keep_months(worker, settings, now, is_patient=True))
        for name in months.made:
            typer.echo(f"made {name}")
        for name in months.detached:
            typer.echo(f"detached {name}")
        errors = [*(problem.message for problem in months.problems), *months.alarms]
        for message in errors:
            typer.echo(f"error: {message}", err=True)
        defaults = asyncio.run(give_default_rewards(worker, settings, now))
        if settings.reward_wait is not None:
            typer.echo(f"default rewards given: {defaults.given}")
        asyncio.run(count_days(worker, now))
        if defaults.is_busy:
            typer.echo("another process is giving default rewards")
        if defaults.failed:
            errors.append(f"default rewards that could not be given, see above: {len(defaults.failed)}")
            typer.echo(f"error: {errors[-1]}", err=True)
    if errors:
        raise typer.Exit(1)
