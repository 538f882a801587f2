"""`oo-ml settings`: the settings of a service that is started in this environment."""

from functools import partial

from rich.console import Console
from rich.table import Column, Table

from oo_ml.settings import Settings


def print_settings() -> None:
    """Print every setting; secrets are hidden.

    Read-only; needs no database. Exit code 1 if a setting is invalid.
    """
    settings = Settings()
    # Names and values are never cut off, and stay on one line if there is room, so that they can be copied.
    whole = partial(Column, overflow="fold", no_wrap=True)
    table = Table(whole("setting"), whole("value"), Column("meaning", overflow="fold"))
    for name, field in Settings.model_fields.items():
        table.add_row(Settings.variable(name), settings.show(name), field.description)
    Console().print(table)
