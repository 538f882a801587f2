"""A published prompt version never changes: the database holds it, whoever writes."""

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
def test_its_text_is_neither_changed_nor_deleted(postgresql: psycopg.Connection[Any], statement: str) -> None:
    """The error names the version."""
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="prompt version v1 is published"):
        postgresql.execute(statement.encode())


def test_its_status_and_weight_are(postgresql: psycopg.Connection[Any]) -> None:
    """Retiring a version, or giving it more of the traffic, is no change of it."""
    changed = postgresql.execute(
        "UPDATE oo_ml.prompt_versions SET status = 'retired', retired_at = now(), weight = 2 WHERE version = 'v1'"
    )
    assert changed.rowcount == 1
