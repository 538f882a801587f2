"""The cost of reads: one statement a call, for any user."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event

from tests import calls
from tests.serving import Service


@pytest.mark.parametrize("path", ["/stats", "/stats/egreedy", "/features"])
@pytest.mark.parametrize("user_id", ["ada", "zoe"])
def test_statements_of_a_read(service: Service, path: str, user_id: str) -> None:
    """A read is one SELECT, for a user of both policies and for an unknown user."""
    for policy in ("", "/egreedy"):
        for _ in range(3):
            service.client.post(f"/score{policy}", json=calls.score())
            service.client.post(f"/reward{policy}", json=calls.reward())
    with collect_statements() as statements:
        assert service.client.get(f"{path}/{user_id}").status_code == 200
    assert [statement.split()[0] for statement in statements] == ["SELECT"]


@contextmanager
def collect_statements() -> Iterator[list[str]]:
    """Collect the statements of every engine of this process: the service has several."""
    statements: list[str] = []

    def collect(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", collect)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", collect)
