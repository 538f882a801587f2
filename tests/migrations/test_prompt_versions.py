"""The trigger that keeps published prompt versions unchanged."""

from typing import Any

import psycopg
import pytest


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE oo_ml.prompt_versions SET system_template = 'Better' WHERE version = 'v1'",
        "UPDATE oo_ml.prompt_versions SET user_template = 'Better' WHERE version = 'v1'",
        "UPDATE oo_ml.prompt_versions SET description = 'Better' WHERE version = 'v1'",
        "UPDATE oo_ml.prompt_versions SET version = 'v0' WHERE version = 'v1'",
        "UPDATE oo_ml.prompt_versions SET published_at = now() WHERE version = 'v1'",
        "DELETE FROM oo_ml.prompt_versions WHERE version = 'v1'",
        (
            "INSERT INTO oo_ml.prompt_versions TABLE oo_ml.prompt_versions"
            " ON CONFLICT (version) DO UPDATE SET description = 'Better'"
        ),
    ],
)
def test_published_version_is_immutable(postgresql: psycopg.Connection[Any], statement: str) -> None:
    """The database refuses to change or delete a published prompt version, and the error names the version."""
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="prompt version v1 is published"):
        postgresql.execute(statement.encode())


def test_status_and_weight(postgresql: psycopg.Connection[Any]) -> None:
    """Status and weight of a published prompt version may change."""
    changed = postgresql.execute(
        "UPDATE oo_ml.prompt_versions SET status = 'retired', retired_at = now(), weight = 2 WHERE version = 'v1'"
    )
    assert changed.rowcount == 1
