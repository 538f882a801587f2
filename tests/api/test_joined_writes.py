"""Head and body of an answer in one write."""

import asyncio
from collections.abc import Iterator

import pytest

from oo_ml.api.joined_writes import JoinedWrites


class _Wire(asyncio.Transport):
    """A transport that keeps what is written to it, piece by piece."""

    def __init__(self) -> None:
        super().__init__({"peername": ("client", 1)})
        self.pieces: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.is_closed
        self.pieces.append(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that goes on when a test says so."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def wire() -> _Wire:
    """The transport itself."""
    return _Wire()


@pytest.fixture
def joined(wire: _Wire, loop: asyncio.AbstractEventLoop) -> JoinedWrites:
    """The transport that the protocol writes to."""
    return JoinedWrites(wire, loop)


def test_head_and_body_are_one_piece(wire: _Wire, joined: JoinedWrites, loop: asyncio.AbstractEventLoop) -> None:
    """The second piece sends both."""
    joined.write(b"head")
    assert wire.pieces == []
    joined.write(b"body")
    assert wire.pieces == [b"headbody"]
    loop.run_until_complete(asyncio.sleep(0))
    assert wire.pieces == [b"headbody"]


def test_piece_alone_is_sent_when_the_loop_goes_on(
    wire: _Wire, joined: JoinedWrites, loop: asyncio.AbstractEventLoop
) -> None:
    """A head without a body does not wait."""
    joined.write(b"head")
    loop.run_until_complete(asyncio.sleep(0))
    assert wire.pieces == [b"head"]


def test_empty_body_sends_the_head(wire: _Wire, joined: JoinedWrites) -> None:
    """No body is a body too."""
    joined.write(b"head")
    joined.write(b"")
    assert wire.pieces == [b"head"]


def test_at_most_one_piece_is_held(wire: _Wire, joined: JoinedWrites, loop: asyncio.AbstractEventLoop) -> None:
    """A long answer is not collected in memory."""
    for number in range(7):
        joined.write(b"%d" % number)
    assert wire.pieces == [b"01", b"23", b"45"]
    loop.run_until_complete(asyncio.sleep(0))
    assert b"".join(wire.pieces) == b"0123456"


def test_close_sends_what_is_held(wire: _Wire, joined: JoinedWrites, loop: asyncio.AbstractEventLoop) -> None:
    """Closing loses nothing."""
    joined.write(b"head")
    joined.close()
    assert wire.pieces == [b"head"]
    assert wire.is_closed
    loop.run_until_complete(asyncio.sleep(0))
    assert wire.pieces == [b"head"]


def test_nothing_is_sent_on_a_connection_that_was_lost(
    wire: _Wire, joined: JoinedWrites, loop: asyncio.AbstractEventLoop
) -> None:
    """A piece for a lost connection is dropped."""
    joined.write(b"head")
    wire.close()
    loop.run_until_complete(asyncio.sleep(0))
    assert wire.pieces == []


def test_the_rest_is_the_transport_itself(wire: _Wire, joined: JoinedWrites) -> None:
    """All but writing is left to the transport."""
    assert joined.get_extra_info("peername") == ("client", 1)
    assert not joined.is_closing()
    wire.close()
    assert joined.is_closing()
