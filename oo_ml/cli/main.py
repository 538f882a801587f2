"""`oo-ml`: the list of its commands. A command's module, and with it the database driver, is imported when it runs.

Importing all of them makes `oo-ml --help` nine times as slow: 2.1 s instead of 0.2 s on a slow machine, most of it for
SQLAlchemy, FastAPI, alembic and numpy. An error is one line on standard error and exit code 1.
"""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any, Final, NoReturn, cast

import typer
from typer.core import MarkupMode, TyperCommand, TyperGroup

from oo_ml.cli.exit_codes import MEANINGS, ExitCode
from oo_ml.cli.process import prepare_process
from oo_ml.errors import OoMlError

# Of help in a pipe; the summary of each command fits.
_WIDTH: Final = 120


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

    def load(self, markup: MarkupMode = "rich") -> TyperCommand | TyperGroup:
        """Import the command; `markup` is that of its help: None is plain text."""
        module, _, attribute = self._target.partition(":")
        target = getattr(import_module(f"oo_ml.cli.{module}"), attribute)
        app = target if isinstance(target, typer.Typer) else typer.Typer(add_completion=False)
        if app is not target:
            app.command(self.name)(target)
        app.rich_markup_mode = markup
        command = typer.main.get_command(app)
        assert isinstance(command, TyperCommand | TyperGroup)  # noqa: S101 - Typer makes no others
        command.name = self.name
        return command

    def make_context(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - as the command has it
        """Return the context in which the command itself is run."""
        return self.load(app.rich_markup_mode).make_context(*args, **extra)


COMMANDS: Final[Sequence[LazyCommand]] = (
    LazyCommand("serve", "serve:serve", "Serve HTTP until SIGINT or SIGTERM."),
    LazyCommand("db", "db:app", "Migrate the database and grant rights on it."),
    LazyCommand("policies", "policies:app", "List, show, check, publish and retire policies."),
    LazyCommand("prompts", "prompts:app", "List, show, publish, weight and retire prompt versions."),
    LazyCommand("keys", "keys:app", "Create, list and revoke API keys."),
    LazyCommand("audit", "audit:app", "Show the log of administrative actions."),
    LazyCommand("import-state", "import_state:import_state", "Import the state files of the file-based service."),
    LazyCommand("export", "export:export_user", "Export every row of a user."),
    LazyCommand("replay", "replay:replay_file", "Import an exported user, bit for bit."),
    LazyCommand("verify", "verify:verify", "Check that each stored state is the fold of its ledger."),
    LazyCommand("evaluate", "evaluate:evaluate", "Estimate from the log what another policy would have earned."),
    LazyCommand("log", "decision_log:app", "Export the log of decisions as Parquet, CSV or JSON Lines."),
    LazyCommand("upkeep", "upkeep:upkeep", "Run the regular upkeep once: partitions, default rewards, daily sums."),
    LazyCommand("settings", "settings:print_settings", "Print every setting; secrets are hidden."),
    LazyCommand("version", "version:print_version", "Print the version."),
)


def _print_version(is_asked: bool) -> None:  # noqa: FBT001 - as Typer calls it
    if is_asked:
        # It imports the parser of e-mail, which no other command needs.
        from oo_ml.cli.version import print_version

        print_version()
        raise typer.Exit


def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Choose the tip to show next for each user, learn from rewards, and keep all data in PostgreSQL."""


def _create_app() -> TyperGroup:
    """Return the group of all commands, with the options that stand before a command."""
    codes = ", ".join(f"{code:d} ({meaning})" for code, meaning in MEANINGS.items())
    root = typer.Typer(name="oo-ml", callback=_options, no_args_is_help=True, epilog=f"Exit codes: {codes}.")
    group = cast("TyperGroup", typer.main.get_command(root))
    group.commands.update((str(command.name), command) for command in COMMANDS)
    return group


app: Final = _create_app()


def main() -> None:
    """Run the command line, in a process of its own."""
    prepare_process()
    run_command()


def run_command() -> None:
    """Run the command in `sys.argv`. Help and usage errors have colours and frames if both outputs are terminals."""
    is_terminal = sys.stdout.isatty() and sys.stderr.isatty()
    app.rich_markup_mode = "rich" if is_terminal else None
    try:
        with _sigterm_as_ctrl_c():
            app(prog_name="oo-ml", **({} if is_terminal else {"terminal_width": _WIDTH}))
    except OoMlError as error:
        for line in error.explanation.splitlines():
            typer.echo(f"error: {line}", err=True)
        sys.exit(ExitCode.FAILED)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, so that a command rolls back and tells how far it came, and exits with 143.

    A command in a container is process 1, to which the kernel delivers only signals that have a handler. `oo-ml serve`
    sets its own later.
    """
    was_terminated = False

    def interrupt(_number: int, _frame: object) -> NoReturn:
        nonlocal was_terminated
        was_terminated = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except SystemExit as end:
        # Typer makes 130 of every KeyboardInterrupt.
        if was_terminated and end.code == ExitCode.INTERRUPTED:
            end.code = ExitCode.TERMINATED
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
