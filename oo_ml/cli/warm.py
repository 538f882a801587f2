"""`oo-ml policies warm`: a policy learns from the logged decisions of other policies."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.options import policy_name, policy_names
from oo_ml.cli.results import AsJson, print_json
from oo_ml.errors import OoMlError
from oo_ml.progress import progress

if TYPE_CHECKING:
    from oo_ml.services.users.warm import Source, Warmed


def warm(
    policy: Annotated[str, typer.Argument(help="Name of the policy", callback=policy_name)],
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="OTHER",
            help="Learn from decisions of this policy; may be repeated; default: all other policies",
            callback=policy_names,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rewards; write nothing")] = False,  # noqa: FBT002 - typer reads it as a flag
    as_json: AsJson = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Let a policy learn from the decisions of other policies, so that it knows their users from the start.

    Adds the reward of each logged decision since the user's last reset to the user's state of the policy, as a ledger
    entry of the kind warm. Safe while the service is running. A reward is added once: after an interruption the same
    command goes on, and a later run adds what came since. A decision whose fields the policy can't read is left out.
    If another session holds a lock on a user, the user is tried again at the end, for up to OO_ML_LONG_TIMEOUT.
    Exit code 1 if a policy is unknown, the one to warm is retired, or a user is locked until then.
    """
    if policy in (sources or ()):
        raise typer.BadParameter(f"{policy} can't be warmed from itself", param_hint="--from")
    from oo_ml.execution.outcomes import only
    from oo_ml.services.database import run_once, single_connection
    from oo_ml.services.users import warm as service

    command = service.FindSourceCommand(policy, sources or ())
    with open_database() as (url, settings):
        source = only(run_once(settings, url, service.find_source, [command], read_only=True))
        total = service.Warmed()
        with single_connection(settings, url, read_only=dry_run, long=True) as engine:
            walk = service.walk_all_rewards(engine, settings, source, dry_run=dry_run)
            try:
                # On standard error, so that standard output has only the result.
                with progress(sys.stderr, "Warming", walk.states) as advance:
                    for part in walk.parts:
                        total += part
                        advance(part.states)
            except (OoMlError, KeyboardInterrupt):
                _show_warmed(source, total, dry_run=dry_run, as_json=as_json, is_complete=False)
                raise
    _show_warmed(source, total, dry_run=dry_run, as_json=as_json)


def _show_warmed(source: "Source", total: "Warmed", *, dry_run: bool, as_json: bool, is_complete: bool = True) -> None:
    counts = {
        "users": total.users,
        "rewards": total.rewards,
        "left_out": total.left_out,
        "already_there": total.already_there,
    }
    if as_json:
        about = {"policy": source.policy.name, "from": source.names, "complete": is_complete, "dry_run": dry_run}
        print_json(about | counts)
        return
    if not is_complete:
        typer.echo("Stopped before the end; the same command goes on from there. So far:")
    typer.echo(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items()))
    if dry_run:
        typer.echo("A dry run: nothing was written")
