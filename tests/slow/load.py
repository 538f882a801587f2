"""Clients for the kill tests: they call a service that comes and goes, and record each call and its answer.

A load generator and no simulation: its users have no tastes, and no reaction takes time.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from tests import calls
from tests.migrations.rows import uuid7
from tests.waiting import PATIENCE, until

CLIENTS: Final = 16
# Of the clients: they send each call once, and don't name it where it need not be.
IMPATIENT: Final = 3
ROUNDS: Final = 25
CALLS: Final = CLIENTS * ROUNDS * 5
# Calls that a patient client makes once more at its end, although it was answered.
AGAIN: Final = 20

_USERS: Final = 20
# Any sum of them is exact.
_VALUES: Final = (-1.0, -0.5, 0.0, 0.25, 0.5, 1.0)
_PAUSE: Final = 0.02


@dataclass(slots=True)
class Call:
    """A call, and its answer.

    Attributes:
        name: the user, and the decision or the tip of this call alone; no decision has shown that tip.
        tries: how often it was sent.
        answer: None if none came, or only that the service could not answer.
    """

    name: tuple[str, str]
    path: str
    body: dict[str, Any]
    key: str | None = None
    tries: int = 0
    answer: httpx.Response | None = None

    @property
    def is_acknowledged(self) -> bool:
        """True if the service has acknowledged the call."""
        return self.answer is not None and self.answer.status_code == 200


@dataclass(slots=True)
class Load:
    """The calls that all clients have sent so far."""

    address: Callable[[], str]
    scores: list[Call] = field(default_factory=list)
    rewards: list[Call] = field(default_factory=list)
    _answered: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_over: threading.Event = field(default_factory=threading.Event)
    _clients: list[Future[None]] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send the calls while the block runs, and go on to the last one unless the block fails."""
        with ThreadPoolExecutor(CLIENTS) as threads:
            self._clients = [threads.submit(_Client(self, number).run) for number in range(CLIENTS)]
            try:
                yield
                for client in self._clients:
                    client.result()
            finally:
                self._is_over.set()

    def wait_for(self, answered: int) -> None:
        """Return as soon as so many calls have been answered."""
        until(lambda: self._answered >= answered or any(map(_has_failed, self._clients)))
        for client in filter(_has_failed, self._clients):
            client.result()

    def count(self) -> None:
        """Count an answered call."""
        with self._lock:
            self._answered += 1

    def is_over_in(self, seconds: float) -> bool:
        """Wait, and return whether there is no more call to send."""
        return self._is_over.wait(seconds)


def _has_failed(client: Future[None]) -> bool:
    return client.done() and client.exception() is not None


class _Client:
    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._number = number
        self._is_patient = number >= IMPATIENT
        self._random = random.Random(number)  # noqa: S311
        self._sent: list[Call] = []
        self._http = httpx.Client(timeout=PATIENCE, trust_env=False)

    def run(self) -> None:
        with self._http:
            for turn in range(ROUNDS):
                for place in (2 * turn, 2 * turn + 1):
                    self._react_to(self._ask(place))
                self._react(turn)
            if self._is_patient:
                self._ask_again()

    def _ask(self, place: int) -> Call:
        user_id = self._user()
        decision_id = str(uuid7(datetime.now(UTC), self._number << 32 | place))
        body = calls.score(user_id, decision_id=decision_id)
        call = Call((user_id, decision_id), self._choose_path("/score"), body)
        self._remember(self._load.scores, call)
        self._send(call, {200})
        return call

    def _react_to(self, decision: Call) -> None:
        user_id, decision_id = decision.name
        # Who was not told guesses.
        tip_id = decision.answer.json()["tip_id"] if decision.answer else "t1"
        body = {"user_id": user_id, "tip_id": tip_id, "decision_id": decision_id, "reward": self._value()}
        call = Call(decision.name, "/reward", body)
        self._remember(self._load.rewards, call)
        self._send(call, {200} if decision.answer else {200, 404, 409})

    def _react(self, turn: int) -> None:
        name = f"{self._number}-{turn}"
        user_id = self._user()
        body = calls.reward(user_id, value=self._value(), tip_id=name)
        call = Call((user_id, name), self._choose_path("/reward"), body, name if self._is_patient else None)
        self._remember(self._load.rewards, call)
        self._send(call, {200})

    def _remember(self, sent: list[Call], call: Call) -> None:
        sent.append(call)
        self._sent.append(call)

    def _ask_again(self) -> None:
        """Repeat some calls, early ones too; the answers must be the same."""
        for call in self._random.sample(self._sent, AGAIN):
            again = replace(call, answer=None)
            self._send(again, {200})
            said, said_again = (one.answer.json() for one in (call, again) if one.answer)
            expected = said | {"applied": False} if "applied" in said else said
            assert said_again == expected, f"{said_again} after {said}"

    def _send(self, call: Call, expected: set[int]) -> None:
        headers = {} if call.key is None else {"Idempotency-Key": call.key}

        def post() -> bool:
            call.tries += 1
            call.answer = self._answer("POST", call.path, json=call.body, headers=headers)
            return call.answer is not None

        if self._is_patient:
            self._repeat(post)
        elif not post():
            # The next call is to have a chance.
            self._repeat(lambda: self._answer("GET", "/readyz") is not None)
        if call.answer is not None:
            assert call.answer.status_code in expected, call.answer.text
            self._load.count()

    def _repeat(self, attempt: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not attempt():
            assert time.monotonic() < deadline, "tried in vain"
            assert not self._load.is_over_in(_PAUSE), "the others have failed"

    def _answer(self, method: str, path: str, **content: Any) -> httpx.Response | None:  # noqa: ANN401
        try:
            answer = self._http.request(method, f"{self._load.address()}{path}", **content)
        except httpx.TransportError:
            return None
        return None if answer.status_code == 503 else answer

    def _user(self) -> str:
        return f"user {self._random.randrange(_USERS)}"

    def _choose_path(self, path: str) -> str:
        return self._random.choice((path, f"{path}/egreedy"))

    def _value(self) -> float:
        return self._random.choice(_VALUES)
