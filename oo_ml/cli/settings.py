"""`oo-ml settings`: the settings of a service that is started in this environment."""

from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from oo_ml.cli.results import AsJson, Column, print_json, print_records
from oo_ml.settings import Settings

# Names and values can be copied.
_COLUMNS: Final = (
    Column("setting", lambda one: one["setting"], is_whole=True),
    Column("value", lambda one: one["value"], is_whole=True),
    Column("meaning", lambda one: one["meaning"]),
)


def print_settings(as_json: AsJson = False) -> None:  # noqa: FBT002 - typer reads it as a flag
    """Print every setting; secrets are hidden.

    Read-only; needs no database. Exit code 1 if a setting is invalid.
    """
    settings = Settings()
    if as_json:
        print_json([_record(name, _plain(getattr(settings, name))) for name in Settings.model_fields])
    else:
        print_records([_record(name, settings.show(name)) for name in Settings.model_fields], _COLUMNS)


def _record(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - settings have several types
    return {"setting": Settings.variable(name), "value": value, "meaning": Settings.model_fields[name].description}


def _plain(value: Any) -> Any:  # noqa: ANN401 - settings have several types
    """Return a value as JSON has it; a secret is hidden."""
    return str(value) if isinstance(value, SecretStr | Path) else value
