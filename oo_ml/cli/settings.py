"""`oo-ml settings`: what a service started here would run with, secrets hidden."""

from rich.console import Console
from rich.table import Table

from oo_ml.settings import Settings


def print_settings() -> None:
    """Print every setting, its value and its meaning; passwords and keys are hidden."""
    settings = Settings()
    table = Table("setting", "value", "meaning")
    for name, field in Settings.model_fields.items():
        table.add_row(Settings.variable(name), settings.shown(name), field.description)
    Console().print(table)
