"""`oo-ml`: every command, and what happens when one fails: one line on standard error, exit code 1."""

import sys

import typer
from alembic.util import CommandError
from pydantic import ValidationError

from oo_ml import __version__
from oo_ml.cli import db, evaluate, export, import_state, prompts, replay, serve, settings, upkeep, verify
from oo_ml.errors import OoMlError
from oo_ml.settings import Settings

app = typer.Typer(
    name="oo-ml",
    help="Chooses the tip to show next for each user, learns from their reactions, and keeps everything in PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.add_typer(db.app, name="db")
app.add_typer(prompts.app, name="prompts")
app.command("import-state")(import_state.import_state)
app.command("export")(export.export_user)
app.command("replay")(replay.replay_file)
app.command("verify")(verify.verify)
app.command("evaluate")(evaluate.evaluate)
app.command("upkeep")(upkeep.upkeep)
app.command("settings")(settings.print_settings)


@app.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except OoMlError as error:
        _fail(error.message)
    except CommandError as error:
        _fail(str(error))
    except ValidationError as error:
        # Only the settings are validated here. Their values may be secrets: names and reasons have to do.
        for problem in error.errors():
            _fail(
                ": ".join([*map(_variable, problem["loc"]), problem["msg"].removeprefix("Value error, ")]), leave=False
            )
        sys.exit(1)


def _variable(location: object) -> str:
    # Pydantic names a field that has an alias by that, and any other by its name.
    return Settings.variable(str(location)) if location in Settings.model_fields else str(location)


def _fail(message: str, *, leave: bool = True) -> None:
    typer.echo(f"error: {message}", err=True)
    if leave:
        sys.exit(1)
