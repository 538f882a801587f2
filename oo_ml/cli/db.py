"""`oo-ml db`: the migrations, for people and for CI/CD."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from oo_ml.domain.identifiers import is_identifier
from oo_ml.logs import configure_logging
from oo_ml.services import migrations
from oo_ml.services.analytics import roles
from oo_ml.services.database import database
from oo_ml.settings import Settings
from oo_ml.storage.roles import Rights

app = typer.Typer(help="Migrate the database. Several processes may do so at once.", no_args_is_help=True)


@app.command()
def upgrade(
    revision: Annotated[str, typer.Argument(help="A revision, `head`, or relative: +1")] = "head",
) -> None:
    """Migrate up, and make partitions for the coming months. At head already: changes nothing."""
    with _database() as (url, settings):
        migrations.upgrade(url, settings, revision)
        typer.echo(migrations.describe_revision(url, settings))


@app.command(context_settings={"ignore_unknown_options": True})  # -1 is a revision
def downgrade(
    revision: Annotated[str, typer.Argument(help="A revision, `base` (drops everything), or relative: -1")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask")] = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Migrate down. Data that the older schema has no place for is lost."""
    if not yes:
        typer.confirm(f"Downgrade to {revision}? Data that the older schema has no place for is lost", abort=True)
    with _database() as (url, settings):
        migrations.downgrade(url, settings, revision)
        typer.echo(migrations.describe_revision(url, settings))


@app.command()
def current() -> None:
    """Print the revision that the database is at, and the one that this release needs."""
    with _database() as (url, settings):
        typer.echo(migrations.describe_revision(url, settings))


@app.command()
def check() -> None:
    """Compare tables, columns, indexes and comments with what this release declares; exit code 1 if they differ."""
    with _database() as (url, settings):
        migrations.check(url, settings)
        typer.echo("Tables, columns, indexes and comments are as this release declares them")


@app.command()
def history() -> None:
    """Print the migrations of this release, one a line, the latest first."""
    typer.echo(migrations.history(), nl=False)


@app.command()
def sql(
    revision: Annotated[str, typer.Argument(help="From and to, as FROM:TO, or only to")] = "head",
) -> None:
    """Print the migrations as SQL, for a database that only its administrators may change."""
    typer.echo(migrations.sql(revision), nl=False)


def _role(name: str) -> str:
    if not is_identifier(name):
        raise typer.BadParameter("no role can have this name")
    return name


Role = Annotated[str, typer.Argument(help="The role; it is made if it does not exist", callback=_role)]


@app.command("grant-service")
def grant_service(name: Role) -> None:
    """Grant a role what `oo-ml serve` needs: to read and write rows, and to keep the months of feature_history.

    Run it once, as the owner of the tables; what later migrations make is granted too.
    """
    _grant(name, Rights.SERVICE)
    typer.echo("The role may run the service")


@app.command("grant-analyst")
def grant_analyst(name: Role) -> None:
    """Grant a role to read the views of schema analytics, and nothing else.

    Run it once, as the owner of the tables; the views of later migrations are granted too.
    """
    _grant(name, Rights.ANALYST)
    typer.echo("The role may read schema analytics")


def _grant(name: str, rights: Rights) -> None:
    with _database() as (url, settings):
        granted = roles.grant(url, settings, name, rights)
    if granted.is_new:
        typer.echo(f"Made {granted.role}. It has no password yet: \\password {granted.role} in psql sets one")


@contextmanager
def _database() -> Iterator[tuple[str, Settings]]:
    settings = Settings()
    configure_logging(settings.log_level)
    with database(settings, migrate=False) as url:
        yield url, settings
