"""The id of a request goes back in the answer."""

import pytest

from tests import calls
from tests.serving import Service

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Request-ID": "r-17"}, "r-17"),
        ({"X-Request-ID": "r-17", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, "r-17"),
        ({"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, TRACE),
    ],
)
@pytest.mark.parametrize("path", ["/score", "/no-such-path"])
def test_id_of_the_client(service: Service, path: str, headers: dict[str, str], expected: str) -> None:
    """X-Request-ID, else the trace of traceparent, is the id of the request, on hot calls and errors as well."""
    assert service.client.post(path, json=calls.score(), headers=headers).headers["X-Request-ID"] == expected


@pytest.mark.parametrize("headers", [{}, {"X-Request-ID": "two words"}, {"X-Request-ID": "x" * 101}], ids=str)
def test_new_id(service: Service, headers: dict[str, str]) -> None:
    """Without an id, or with one that can't stand in a log line, a request gets a new one."""
    ids = {service.client.get("/livez", headers=headers).headers["X-Request-ID"] for _ in range(2)}
    assert len(ids) == 2
    assert all(len(one) == 32 for one in ids)
