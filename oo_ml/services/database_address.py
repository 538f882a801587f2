"""The address of the database of a process. A private PostgreSQL runs while the address is in use."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from oo_ml import embedded_postgres
from oo_ml.errors import EmbeddedPostgresError
from oo_ml.settings import Settings
from oo_ml.storage.postgres.address import parse_url


@contextmanager
def database(
    settings: Settings, *, migrate: bool = True, meanwhile: Callable[[], object] | None = None
) -> Iterator[str]:
    """Yield the address of the database: the one that the settings name, or a private one, started and migrated.

    ADR 5: only `oo-ml db upgrade` migrates a database that the settings name. With `migrate` off the private one is
    not migrated either. `meanwhile` is called while a private one starts.

    Raises:
        ConfigurationError: OO_ML_DATABASE_URL is not the address of a PostgreSQL server.
        EmbeddedPostgresError: the private server could not be started.
    """
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        parse_url(url)
        yield url
        return
    _refuse_without_home(settings.data_dir)
    with (
        _without_libpq_variables(),
        embedded_postgres.running(
            settings.data_dir,
            bin_dir=settings.postgres_bin_dir,
            start_timeout=settings.postgres_start_timeout,
            meanwhile=meanwhile,
        ) as server,
    ):
        if migrate:
            _upgrade(server.url, settings)
        yield server.url


def _refuse_without_home(data_dir: Path) -> None:
    if str(data_dir).startswith("~"):
        raise EmbeddedPostgresError(
            f"The home directory of {data_dir} is not known, so the private PostgreSQL has no place for its data: "
            "set HOME or OO_ML_DATA_DIR to a full path, or name a running server in OO_ML_DATABASE_URL"
        )


@contextmanager
def _without_libpq_variables() -> Iterator[None]:
    """Remove the variables that libpq reads: PGHOSTADDR, PGSERVICE and others would lead past the private PostgreSQL.

    The processes of the service inherit the environment.
    """
    removed = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PG")}
    try:
        yield
    finally:
        os.environ.update(removed)


def _upgrade(url: str, settings: Settings) -> None:
    # A database that the settings name needs neither; numpy and alembic take 0.1 s and 0.2 s to import.
    from oo_ml.storage.schema.coming_months import make_ready  # noqa: PLC0415

    if not make_ready(url, settings):
        from oo_ml.storage.schema.migrate import upgrade  # noqa: PLC0415

        upgrade(url, settings)
