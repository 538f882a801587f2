"""`oo-ml settings`, and errors in settings."""

from typing import Any

import pytest

from oo_ml.settings import Settings
from tests.commands import Done, oo_ml

NESTING = "OO_ML_LANE_LOCK_TIMEOUT <= OO_ML_LOCK_TIMEOUT <= OO_ML_STATEMENT_TIMEOUT <= OO_ML_REQUEST_TIMEOUT must hold"


def test_printed_settings() -> None:
    """Every setting is printed with its value and its whole name, and secrets are hidden."""
    done = oo_ml(
        "settings",
        COLUMNS=80,
        OO_ML_ALPHA=0.25,
        OO_ML_DATABASE_URL="postgresql://u:open-sesame@db.example.org/d",
        LITELLM_MASTER_KEY="sk-open-sesame",
        TIP_PROMPT_VERSION="v1,v2-mentor",
    )
    assert (done.code, done.err) == (0, "")
    values = {}
    for line in done.out.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if cells and cells[0]:
            values[cells[0]] = cells[1]
    assert set(values) == {Settings.variable(name) for name in Settings.model_fields}
    assert values["OO_ML_ALPHA"] == "0.25"
    assert values["TIP_PROMPT_VERSION"] == "v1,v2-mentor"
    assert values["OO_ML_DATABASE_URL"] == values["LITELLM_MASTER_KEY"] == "**********"
    assert "sesame" not in done.out


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"OO_ML_EPSILON": "1.5"}, "OO_ML_EPSILON: Input should be less than or equal to 1"),
        ({"OO_ML_STATEMENT_TIMEOUT": "7"}, NESTING),
        ({"OO_ML_LANE_LOCK_TIMEOUT": "1.2"}, NESTING),
    ],
)
def test_invalid_settings(variables: dict[str, str], line: str) -> None:
    """An invalid setting is one line with its name and the reason, without its value."""
    assert oo_ml("settings", **variables) == Done(1, "", f"error: {line}\n")


@pytest.mark.parametrize("url", ["mysql://u:sesame@db/d", "postgresql://u:sesame@db:port/d"])
def test_invalid_database_url(url: str) -> None:
    """An invalid OO_ML_DATABASE_URL is one line that does not show it, because it may contain a password."""
    done = oo_ml("db", "current", OO_ML_DATABASE_URL=url)
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("error: OO_ML_DATABASE_URL ")
    assert "sesame" not in done.err


@pytest.mark.parametrize("variable", ["OO_ML_DATABASE_WORKERS", "OO_ML_LANES", "OO_ML_LANE_BATCH", "OO_ML_LANE_QUEUE"])
def test_invalid_settings_of_serve(variable: str) -> None:
    """`serve` validates its settings before it connects to a database."""
    variables: dict[str, Any] = {variable: 0}
    assert oo_ml("serve", **variables) == Done(1, "", f"error: {variable}: Input should be greater than 0\n")
