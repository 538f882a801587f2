"""`oo-ml settings`: what a service started here would run with, secrets hidden."""

from functools import partial

from rich.console import Console
from rich.table import Column, Table

from oo_ml.settings import Settings


def print_settings() -> None:
    """Print every setting, its value and its meaning; passwords and keys are hidden."""
    settings = Settings()
    # Nothing is cut off, and what can be copied stays in one piece where there is room.
    whole = partial(Column, overflow="fold", no_wrap=True)
    table = Table(whole("setting"), whole("value"), Column("meaning", overflow="fold"))
    for name, field in Settings.model_fields.items():
        table.add_row(Settings.variable(name), settings.shown(name), field.description)
    Console().print(table)
