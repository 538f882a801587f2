"""`oo-ml`: the list of its commands. A command's module, and with it the database driver, is imported when it runs.

Importing all of them makes `oo-ml --help` nine times as slow: 2.1 s instead of 0.2 s on a slow machine, most of it for
SQLAlchemy, FastAPI, alembic and numpy. An error is one line on standard error and exit code 1.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from oo_ml.errors import OoMlError


class LazyCommand(TyperCommand):
    """A command, or a group of commands, that is imported when it runs; `--help` of all lists its summary."""

    def __init__(self, name: str, target: str, summary: str) -> None:
        """Take the place of a command.

        Args:
            name: the command's name.
            target: `module:name`, within oo_ml.cli, of its function or of the typer.Typer of a group.
            summary: the first line of its help.
        """
        super().__init__(name, help=summary)
        self._target = target

    def load(self) -> TyperCommand | TyperGroup:
        """Import the command."""
        module, _, attribute = self._target.partition(":")
        target = getattr(import_module(f"oo_ml.cli.{module}"), attribute)
        app = target if isinstance(target, typer.Typer) else typer.Typer(add_completion=False)
        if app is not target:
            app.command(self.name)(target)
        command = typer.main.get_command(app)
        assert isinstance(command, TyperCommand | TyperGroup)  # noqa: S101 - Typer makes no others
        command.name = self.name
        return command

    def make_context(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - as the command has it
        """Return the context in which the command itself is run."""
        return self.load().make_context(*args, **extra)


def _print_version() -> None:
    # It imports the parser of e-mail, which no other command needs.
    from importlib.metadata import version  # noqa: PLC0415

    typer.echo(version("oo-ml"))


COMMANDS: Final[Sequence[TyperCommand]] = (
    LazyCommand("serve", "serve:serve", "Serve HTTP until SIGINT or SIGTERM."),
    LazyCommand("db", "db:app", "Migrate the database and grant rights on it."),
    LazyCommand("prompts", "prompts:app", "List, show, publish, weight and retire prompt versions."),
    LazyCommand("keys", "keys:app", "Create, list and revoke API keys."),
    LazyCommand("audit", "audit:app", "Show the log of administrative actions."),
    LazyCommand("import-state", "import_state:import_state", "Import the state files of the file-based service."),
    LazyCommand("export", "export:export_user", "Export every row of a user."),
    LazyCommand("replay", "replay:replay_file", "Import an exported user, bit for bit."),
    LazyCommand("verify", "verify:verify", "Check that each stored state is the fold of its ledger."),
    LazyCommand("evaluate", "evaluate:evaluate", "Estimate from the log what another policy would have earned."),
    LazyCommand("upkeep", "upkeep:upkeep", "Run the regular upkeep once: partitions, default rewards, daily sums."),
    LazyCommand("settings", "settings:print_settings", "Print every setting; secrets are hidden."),
    TyperCommand("version", callback=_print_version, help="Print the version."),
)

app: Final = TyperGroup(
    name="oo-ml",
    help="Choose the tip to show next for each user, learn from rewards, and keep all data in PostgreSQL.",
    commands={str(command.name): command for command in COMMANDS},
    no_args_is_help=True,
)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except OoMlError as error:
        for line in error.message.splitlines():
            typer.echo(f"error: {line}", err=True)
        sys.exit(1)
