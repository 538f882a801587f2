"""Clients that call until they are told to stop, and repeat a call only if its connection fails."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import httpx
from sqlalchemy import Engine, text

from tests import calls
from tests.migrations.rows import uuid7
from tests.waiting import PATIENCE, until

CLIENTS: Final = 6
# Clients share users, so both services change the same states.
_USERS: Final = 8
# Any sum of them is exact.
_VALUES: Final = (-1.0, -0.5, 0.25, 0.5)
_AMENDED: Final = 1.0
# Between two turns of a client: the services that start meanwhile need the processors too.
_PAUSE: Final = 0.2

Name = tuple[str, str]


@dataclass(slots=True)
class SteadyLoad:
    """The calls that all clients have made.

    Attributes:
        url: the address of the balancer.
        answers: the answer of each decision, by user and decision_id.
        entries: the ledger entries of each decision, or of each tip that no decision has shown: kind and reward.
        answered: number of calls.
    """

    url: str
    answers: dict[Name, dict[str, Any]] = field(default_factory=dict)
    entries: dict[Name, list[tuple[str, float | None]]] = field(default_factory=lambda: defaultdict(list))
    answered: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_over: threading.Event = field(default_factory=threading.Event)
    _clients: list[Future[None]] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Call while the block runs; then finish the turn of each client, and raise the first failure."""
        with ThreadPoolExecutor(CLIENTS) as threads:
            self._clients = [threads.submit(_Client(self, number).run) for number in range(CLIENTS)]
            try:
                yield
            finally:
                self._is_over.set()
            for client in self._clients:
                client.result()

    def go_on(self, more: int) -> None:
        """Return as soon as so many more calls have been answered."""
        enough = self.answered + more
        until(lambda: self.answered >= enough or any(client.done() for client in self._clients))
        for client in self._clients:
            if client.done():
                client.result()

    def count(self) -> None:
        """Count an answered call."""
        with self._lock:
            self.answered += 1

    def is_over_in(self, seconds: float) -> bool:
        """Wait, and return whether the clients shall stop."""
        return self._is_over.wait(seconds)


class _Client:
    def __init__(self, load: SteadyLoad, number: int) -> None:
        self._load = load
        self._number = number
        self._random = random.Random(number)  # noqa: S311 - no secret

    def run(self) -> None:
        with httpx.Client(base_url=self._load.url, timeout=PATIENCE, trust_env=False) as http:
            turn = 0
            while not self._load.is_over_in(_PAUSE):
                self._decide_and_correct(http, turn)
                self._reward_without_decision(http, turn)
                turn += 1

    def _decide_and_correct(self, http: httpx.Client, turn: int) -> None:
        """Make a decision, reward it, amend the reward, and retract every second one."""
        user_id, decision_id = self._user(), str(uuid7(datetime.now(UTC), self._number << 32 | turn))
        name = (user_id, decision_id)
        receipt = f"/users/{user_id}/decisions/{decision_id}"
        said = self._call(http, "POST", self._choose_path("/score"), calls.score(user_id, decision_id=decision_id))
        self._load.answers[name] = said
        value = self._random.choice(_VALUES)
        body = {"user_id": user_id, "tip_id": said["tip_id"], "decision_id": decision_id, "reward": value}
        self._call(http, "POST", "/reward", body)
        self._load.entries[name].append(("reward", value))
        self._call(http, "PUT", f"{receipt}/reward", {"reward": _AMENDED})
        self._load.entries[name].append(("amend", _AMENDED))
        if turn % 2:
            self._call(http, "DELETE", f"{receipt}/reward")
            self._load.entries[name].append(("retract", None))
        told = [(change["kind"], change["reward"]) for change in self._call(http, "GET", receipt)["rewards"]]
        assert told == self._load.entries[name], told

    def _reward_without_decision(self, http: httpx.Client, turn: int) -> None:
        name, value = (self._user(), f"{self._number}-{turn}"), self._random.choice(_VALUES)
        body = calls.reward(name[0], value=value, tip_id=name[1])
        self._call(http, "POST", self._choose_path("/reward"), body, {"Idempotency-Key": name[1]})
        self._load.entries[name].append(("reward", value))

    def _call(
        self,
        http: httpx.Client,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> Any:  # noqa: ANN401 - JSON
        """Return the answer of a call, which every try names by the same ids. Any status but 200 is a failure."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                answer = http.request(method, path, json=body, headers=headers)
                assert answer.status_code == httpx.codes.OK, f"{method} {path}: {answer.status_code} {answer.text}"
                self._load.count()
                return answer.json()
            time.sleep(_PAUSE)
        raise AssertionError(f"{method} {path}: no connection lasted")

    def _user(self) -> str:
        return f"user-{self._random.randrange(_USERS)}"

    def _choose_path(self, path: str) -> str:
        return self._random.choice((path, f"{path}/egreedy"))


def assert_stored(db: Engine, load: SteadyLoad) -> None:
    """Assert that the tables hold each decision and each reward of the load once, and no other.

    A warm entry is no reward: another entry is that reward.
    """
    with db.begin() as connection:
        decisions = connection.execute(text("SELECT user_id, decision_id, answer FROM oo_ml.feature_history")).all()
        rewards = connection.execute(
            text("SELECT * FROM oo_ml.reward_ledger WHERE kind <> 'warm' ORDER BY epoch, version")
        ).all()
    assert len(decisions) == len(load.answers)
    assert {(one.user_id, str(one.decision_id)): one.answer for one in decisions} == load.answers
    entries = defaultdict(list)
    for one in rewards:
        entries[one.user_id, str(one.decision_id or one.tip_id)].append((one.kind, one.reward))
    assert entries == load.entries
