"""`oo-ml upkeep`: all regular work, once, for cron. Run it as the owner of the tables."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.exit_codes import ExitCode
from oo_ml.cli.results import AsJson, print_json
from oo_ml.errors import OoMlError

if TYPE_CHECKING:
    from oo_ml.services.upkeep.default_rewards import Defaults
    from oo_ml.services.upkeep.partitions import Months


def upkeep(as_json: AsJson = False) -> None:  # noqa: FBT002 - typer reads it as a flag
    """Run the regular upkeep once: partitions, default rewards, daily sums, priors.

    Makes the partitions of coming months, detaches months past OO_ML_HISTORY_RETENTION, gives default rewards to
    decisions past OO_ML_REWARD_WAIT, updates the daily sums, fits the priors that are due, and deletes their versions
    past OO_ML_PRIOR_RETENTION_DAYS. Safe while the service is running. Exit code 1 if a task fails.
    """
    import asyncio

    from oo_ml.services.database import single_worker
    from oo_ml.services.policies.fit import fit_due
    from oo_ml.services.upkeep.daily_sums import count_days
    from oo_ml.services.upkeep.default_rewards import give_default_rewards
    from oo_ml.services.upkeep.partitions import keep_months

    done: dict[str, Any] = {
        "made": [],
        "detached": [],
        "default_rewards_given": 0,
        "default_rewards_busy": False,
        "priors": [],
    }
    errors: list[str] = []
    try:
        with open_database("warning") as (url, settings), single_worker(settings, url) as worker:
            now = datetime.now(UTC)
            months = asyncio.run(keep_months(worker, settings, now, is_patient=True))
            done |= {"made": months.made, "detached": months.detached}
            if not as_json:
                _show_months(months)
            errors += [*(problem.explanation for problem in months.problems), *months.alarms]
            _show_errors(errors)
            defaults = asyncio.run(give_default_rewards(worker, settings, now))
            done |= {"default_rewards_given": defaults.given, "default_rewards_busy": defaults.is_busy}
            if not as_json:
                _show_defaults(defaults, is_on=settings.reward_wait is not None)
            if defaults.failed:
                errors.append(f"default rewards that could not be given, see above: {len(defaults.failed)}")
                _show_errors(errors[-1:])
            asyncio.run(count_days(worker, now))
            fits = asyncio.run(fit_due(worker, settings, now))
            done["priors"] = [{"policy": row.policy, "version": row.prior.version} for row in fits.fitted]
            if not as_json:
                for row in fits.fitted:
                    typer.echo(f"fitted version {row.prior.version} of the prior of {row.policy} to {row.users} users")
            problems = [problem.explanation for problem in fits.problems]
            errors += problems
            _show_errors(problems)
    except OoMlError as error:
        # Printed by the caller. What was done before is done.
        if as_json:
            print_json({**done, "errors": [*errors, error.explanation]})
        raise
    if as_json:
        print_json({**done, "errors": errors})
    if errors:
        raise typer.Exit(ExitCode.FAILED)


def _show_months(months: "Months") -> None:
    for name in months.made:
        typer.echo(f"made {name}")
    for name in months.detached:
        typer.echo(f"detached {name}")


def _show_errors(errors: Sequence[str]) -> None:
    for message in errors:
        typer.echo(f"error: {message}", err=True)


def _show_defaults(defaults: "Defaults", *, is_on: bool) -> None:
    if is_on:
        typer.echo(f"default rewards given: {defaults.given}")
    if defaults.is_busy:
        typer.echo("another process is giving default rewards")
