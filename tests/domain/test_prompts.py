"""Lists of prompt versions."""

import pytest

from oo_ml.domain.prompts import parse_versions


@pytest.mark.parametrize(
    ("configured", "versions"),
    [
        ("", []),
        (" , ,", []),
        ("v2-mentor", ["v2-mentor"]),
        (" v1 ,, v2-mentor,v3-few-shot ", ["v1", "v2-mentor", "v3-few-shot"]),
        ("v1,v1,v2-mentor", ["v1", "v1", "v2-mentor"]),
    ],
)
def test_parse_versions(configured: str, versions: list[str]) -> None:
    """Spaces and empty entries in the list are ignored."""
    assert parse_versions(configured) == versions
