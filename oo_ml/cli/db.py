"""`oo-ml db`: migrations, and rights for roles. Only commands that migrate import alembic, which takes 0.2 s."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from oo_ml.cli.database import open_database
from oo_ml.cli.results import AsJson, print_json
from oo_ml.domain.identifiers import is_identifier

if TYPE_CHECKING:
    from oo_ml.services.grants import Granted

app = typer.Typer(
    help="Migrate the database and grant rights on it. Several processes may migrate at once.",
    no_args_is_help=True,
    add_completion=False,
)


_open_as_it_is = partial(open_database, "info", migrate=False)


@app.command()
def upgrade(
    revision: Annotated[str, typer.Argument(help="A revision, `head`, or relative: +1")] = "head",
) -> None:
    """Migrate up, and make the partitions of the coming months. At head, only partitions are made."""
    from oo_ml.services import migrations, revisions

    with _open_as_it_is() as (url, settings):
        migrations.upgrade(url, settings, revision)
        typer.echo(revisions.describe_revision(url, settings))


@app.command(context_settings={"ignore_unknown_options": True})  # -1 is a revision
def downgrade(
    revision: Annotated[str, typer.Argument(help="A revision, `base` (drops everything), or relative: -1")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation")] = False,  # noqa: FBT002 - typer reads it as a flag
) -> None:
    """Migrate down. Data that the older schema has no place for is lost."""
    from oo_ml.services import migrations, revisions

    if not yes:
        typer.confirm(f"Downgrade to {revision}? Data that the older schema has no place for is lost", abort=True)
    with _open_as_it_is() as (url, settings):
        migrations.downgrade(url, settings, revision)
        typer.echo(revisions.describe_revision(url, settings))


@app.command()
def current(as_json: AsJson = False) -> None:  # noqa: FBT002 - typer reads it as a flag
    """Print the revision of the database, and the revision that this release needs. Read-only."""
    from oo_ml.services import revisions

    with _open_as_it_is() as (url, settings):
        if as_json:
            print_json(asdict(revisions.find_revision(url, settings)))
        else:
            typer.echo(revisions.describe_revision(url, settings))


@app.command()
def check() -> None:
    """Compare tables, columns, indexes and comments with the declarations of this release.

    Read-only. Exit code 1 if they differ.
    """
    from oo_ml.services import migrations

    with _open_as_it_is() as (url, settings):
        migrations.check(url, settings)
        typer.echo("Tables, columns, indexes and comments are as this release declares them")


@app.command()
def history() -> None:
    """Print the migrations of this release, one a line, the latest first. Needs no database."""
    from oo_ml.services import migrations

    typer.echo(migrations.history(), nl=False)


@app.command()
def sql(
    revision: Annotated[str, typer.Argument(help="From and to, as FROM:TO, or only to")] = "head",
) -> None:
    """Print the migrations as SQL, for a database that only its administrators may change. Needs no database."""
    from oo_ml.services import migrations

    typer.echo(migrations.sql(revision), nl=False)


def _role(name: str) -> str:
    if not is_identifier(name):
        raise typer.BadParameter("no role can have this name")
    return name


Role = Annotated[str, typer.Argument(help="The role; created if it does not exist", callback=_role)]


@app.command("grant-service")
def grant_service(name: Role) -> None:
    """Grant a role the rights of `oo-ml serve`: to read and write rows, and to keep the months of feature_history.

    Run it once, as the owner of the tables. The tables of later migrations are granted too.
    """
    from oo_ml.services import grants

    with _open_as_it_is() as (url, settings):
        _tell_of_new_role(grants.grant_service(url, settings, name))
    typer.echo("The role may run the service")


@app.command("grant-analyst")
def grant_analyst(name: Role) -> None:
    """Grant a role the right to read the views of schema analytics, and nothing else.

    Run it once, as the owner of the tables. The views of later migrations are granted too.
    """
    from oo_ml.services import grants

    with _open_as_it_is() as (url, settings):
        _tell_of_new_role(grants.grant_analyst(url, settings, name))
    typer.echo("The role may read schema analytics")


def _tell_of_new_role(granted: "Granted") -> None:
    if granted.is_new:
        typer.echo(f"Created {granted.role}. It has no password yet: \\password {granted.role} in psql sets one")
