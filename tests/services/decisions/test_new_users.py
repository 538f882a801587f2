"""Batches that create rows of new users never wait for each other in a circle (ADR 16)."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

from oo_ml.domain.policies import LINUCB
from oo_ml.storage import policy_state
from oo_ml.storage.policy_state import StateKey
from tests import calls
from tests.conftest import Serve
from tests.gates import count_blocked, scalar
from tests.policies import FRESH
from tests.sessions import open_session
from tests.waiting import until


@pytest.mark.parametrize(("path", "item"), [("/score/batch", calls.score), ("/reward/batch", calls.reward)])
def test_no_deadlock_with_new_users(serve: Serve, db: Engine, path: str, item: Callable[[str], dict[str, Any]]) -> None:
    """A batch knows ben and creates ada and dan, while a second batch wants ada and ben: both succeed."""
    service = serve()
    service.client.post("/score", json=calls.score("ben"))
    with ThreadPoolExecutor(2) as clients, open_session(db) as ada, open_session(db) as dan, refusals() as seen:
        for maker, user_id in ((ada, "ada"), (dan, "dan")):
            policy_state.lock_or_create_states(maker, {StateKey(user_id, LINUCB): FRESH[LINUCB]})
        first = clients.submit(service.client.post, path, json={"items": [item(one) for one in ("ada", "ben", "dan")]})
        until(lambda: waits_for(db, ada))
        ada.commit()
        until(lambda: waits_for(db, dan))
        second = clients.submit(service.client.post, path, json={"items": [item(one) for one in ("ada", "ben")]})
        until(lambda: second.done() or count_blocked(db) == 2)
        dan.commit()
        answers = [call.result().json() for call in (first, second)]
    assert [[one["status"] for one in answer["outcomes"]] for answer in answers] == [[200] * 3, [200] * 2]
    assert seen == []


def waits_for(db: Engine, holder: Connection) -> bool:
    """Return whether any session waits for `holder`."""
    pid = int(holder.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
    return bool(scalar(db, f"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE {pid} = ANY (pg_blocking_pids(pid)))"))  # noqa: S608 - a number


@contextmanager
def refusals() -> Iterator[list[str]]:
    """Collect the errors of all engines of this process."""
    seen: list[str] = []

    def collect(context: ExceptionContext) -> None:
        seen.append(str(context.original_exception).splitlines()[0])

    event.listen(Engine, "handle_error", collect)
    yield seen
    event.remove(Engine, "handle_error", collect)
