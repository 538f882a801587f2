"""The HTTP protocol of a connection: upgrades are ignored, and slow, malformed and too many requests are refused."""

import socket
import struct
import sys
import time
from contextlib import suppress

import pytest

from oo_ml.setting_choices import Auth
from tests import calls
from tests.api.access.conftest import ADMIN_TOKEN
from tests.conftest import Serve
from tests.raw_http import ask_livez, connect, exchange, statuses
from tests.serving import Service
from tests.waiting import until

UPGRADES = {
    "h2c": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    "websocket": "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "tls": "Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
}
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
READYZ = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
INNER = b"DELETE /users/ada HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def guarded(serve: Serve) -> Service:
    """A service whose calls need a key."""
    return serve(auth=Auth.REQUIRED, admin_key=ADMIN_TOKEN)


def score(service: Service) -> bytes:
    """Return the body of a request for a decision."""
    return service.client.build_request("POST", "/score", json=calls.score()).content


@pytest.mark.parametrize("offer", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_upgrades_are_ignored(service: Service, offer: str, *, chunked: bool, split: bool) -> None:
    """An offer to upgrade changes nothing: the body is read, and so is the next request of the connection."""
    body = score(service)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    head = f"POST /score HTTP/1.1\r\nHost: x\r\n{offer}{framing}\r\n\r\n".encode()
    after = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    parts = [head, sent, after] if split else [head + sent + after]
    answers = exchange(service, *parts)
    assert statuses(answers) == [200, 200]
    assert b'"tip_id":"t1"' in answers


@pytest.mark.parametrize("offer", UPGRADES.values(), ids=UPGRADES)
def test_body_is_never_a_request(service: Service, offer: str) -> None:
    """A body that looks like a request is a body, with an offer to upgrade as well: the user is not erased."""
    service.client.post("/score", json=calls.score(user_id="ada"))
    head = f"POST /score HTTP/1.1\r\nHost: x\r\n{offer}Content-Length: {len(INNER)}\r\n\r\n".encode()
    after = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert statuses(exchange(service, head + INNER + after)) == [422, 200]
    assert service.client.get("/stats/ada").json()["pulls"] == 1


@pytest.mark.parametrize("request_", [b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n"])
def test_malformed_requests(service: Service, request_: bytes) -> None:
    """A request that can't be served by this protocol is refused with a Problem, and the connection is closed."""
    answer = exchange(service, request_)
    assert statuses(answer) in ([400], [405])
    assert b"content-type: application/json" in answer
    assert b'"code":"' in answer


def test_malformed_body(service: Service) -> None:
    """A chunk that can't be read ends the request with a 400, and changes nothing."""
    head = b"POST /reset/ada HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert statuses(exchange(service, b"POST /score HTTP/1.1" + head[20:] + b"zz\r\n"))[-1:] == [400]


@pytest.mark.parametrize("sent", [b"POST /score HTT", b"POST /score HTTP/1.1\r\nHost: x\r\n"], ids=len)
def test_slow_head(serve: Serve, sent: bytes) -> None:
    """A head that does not arrive in time is a 408, from its first byte on."""
    service = serve(head_timeout=0.2)
    answer = exchange(service, sent)
    assert statuses(answer) == [408]
    assert b"slow_request" in answer


def test_large_head(serve: Serve) -> None:
    """A head that does not end is refused once it is too large; a smaller one in many pieces is not."""
    service = serve(max_head_bytes=1000)
    first, rest = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", b"X-A: " + b"a" * 95 + b"\r\n"
    assert statuses(exchange(service, first, *[rest] * 5, b"\r\n")) == [200]
    answer = exchange(service, first, *[rest] * 10)
    assert statuses(answer) == [431]
    assert b"head_too_large" in answer


def test_slow_body(serve: Serve) -> None:
    """A body that does not arrive in time is a 408; the call has no effect."""
    service = serve(body_timeout=0.2)
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(score(service))}\r\n\r\n".encode()
    assert statuses(exchange(service, head, score(service)[:-1])) == [408]
    assert service.client.get("/stats/ada").json()["pulls"] == 0


def test_timers_end_with_the_request(serve: Serve) -> None:
    """A connection that is idle after an answer is closed by OO_ML_KEEP_ALIVE alone, not as a slow request."""
    service = serve(head_timeout=0.2, body_timeout=0.2)
    with connect(service) as connection:
        for _ in range(2):
            ask_livez(connection)
            time.sleep(0.5)


def test_too_many_connections(serve: Serve) -> None:
    """A connection over the limit is answered 503 and closed; the others go on."""
    service = serve(max_connections=2)
    with connect(service) as first, connect(service) as second:
        for connection in (first, second):
            ask_livez(connection)
        refused = exchange(service)
        assert statuses(refused) == [503]
        assert b"retry-after: 1" in refused
        ask_livez(first)


@pytest.mark.parametrize("sent", [[], [b"\r\n"], [LIVEZ, b"\r\n"], [LIVEZ]], ids=str)
def test_idle_connections(serve: Serve, sent: list[bytes]) -> None:
    """A connection without a request is closed after OO_ML_KEEP_ALIVE, without an answer; line breaks are none."""
    assert statuses(exchange(serve(keep_alive=1), *sent)) == [200] * sent.count(LIVEZ)


def test_trailers(guarded: Service) -> None:
    """A key in a trailer, after the body, is no key: a proxy may have checked the head."""
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    body = b"2\r\n{}\r\n0\r\nAuthorization: Bearer " + ADMIN_TOKEN.encode() + b"\r\n\r\n"
    assert statuses(exchange(guarded, head + body)) == [401]


def test_malformed_request_behind_another(service: Service) -> None:
    """The answer to a request is not disturbed by a malformed one behind it; the connection ends after it."""
    bad = b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
    answer = exchange(service, READYZ + bad)
    assert statuses(answer) == [200]
    assert answer.endswith(b'{"ok":true}')


def test_pipelined_requests(service: Service) -> None:
    """Requests that are sent ahead are answered in their order; a client that sends too many is cut off."""
    last = b"GET /no-such-path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert statuses(exchange(service, LIVEZ * 50 + last)) == [200] * 50 + [404]
    with connect(service) as connection, suppress(ConnectionResetError):
        connection.sendall(READYZ * 1000)
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
        assert len(statuses(answers)) < 1000


def test_client_that_does_not_read(serve: Serve) -> None:
    """A client that takes nothing of its answers is cut off after OO_ML_SEND_TIMEOUT, and makes room for another."""
    service = serve(send_timeout=0.5, max_connections=1)
    with connect(service) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        script = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.sendall(script * 8)
        until(lambda: is_admitted(service))


def is_admitted(service: Service) -> bool:
    """Return whether a new connection is answered."""
    with suppress(ConnectionResetError):
        return statuses(exchange(service, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == [200]
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the segments of a connection")
def test_answer_is_one_segment(service: Service) -> None:
    """Head and body of an answer are sent together."""
    body = score(service)
    with connect(service) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(65536)
        # tcpi_data_segs_in of struct tcp_info, the 39th number of 4 bytes.
        [segments] = struct.unpack_from("I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160), 152)
    assert statuses(answer) == [200]
    assert segments == 1
