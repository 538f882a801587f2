"""`oo-ml`: every command, and what happens when one fails: one line on standard error, exit code 1."""

import sys

import typer
from alembic.util import CommandError
from pydantic import ValidationError

from oo_ml import __version__
from oo_ml.cli import db, prompts, serve, settings
from oo_ml.errors import OoMlError

app = typer.Typer(
    name="oo-ml",
    help="Which tip to show next, for each person, learned from their reactions and kept in PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.add_typer(db.app, name="db")
app.add_typer(prompts.app, name="prompts")
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
            _fail(f"setting {'.'.join(map(str, problem['loc'])) or 'combination'}: {problem['msg']}", leave=False)
        sys.exit(1)


def _fail(message: str, *, leave: bool = True) -> None:
    typer.echo(f"error: {message}", err=True)
    if leave:
        sys.exit(1)
