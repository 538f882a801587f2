"""Lanes: batches, the order of each user's commands, the lane of a user, bounded queues."""

import asyncio
import random
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from oo_ml.domain.policies import LINUCB
from oo_ml.errors import OtherTipError, OverloadedError
from oo_ml.execution.lanes import Lanes
from oo_ml.services.decisions.learn import correct, learn
from oo_ml.services.decisions.reset import reset
from oo_ml.storage import policy_state
from oo_ml.storage.policy_state import StateKey
from oo_ml.storage.postgres.sessions import Writing
from tests import calls
from tests.conftest import Serve
from tests.execution.notes import (
    Note,
    Scribe,
    busy,
    notes,
    outcomes,
    read_written,
    running,
    send,
    send_together,
)
from tests.gates import holding_state, scalar, wait_until_blocked
from tests.policies import FRESH
from tests.rows import assert_folded, everything
from tests.services.decisions.batches import corrections, make_comparable, reactions_by_id, rewards, score, scores
from tests.sessions import writing

pytestmark = pytest.mark.usefixtures("paper")


def touch(connection: Writing, user_ids: Sequence[str]) -> list[str]:
    """Lock or create the row of each user; return the name of the lane, once for each."""
    policy_state.lock_or_create_states(connection, {StateKey(user_id, LINUCB): FRESH[LINUCB] for user_id in user_ids})
    return [threading.current_thread().name] * len(user_ids)


def users_of(lanes: Lanes, count: int) -> list[list[str]]:
    """Return users of each of `count` lanes; each of them has a row."""

    async def ask() -> dict[str, str]:
        names = [f"u{number}" for number in range(20 * count)]
        return dict(zip(names, await asyncio.gather(*(lanes.run(touch, name, name) for name in names)), strict=True))

    users = defaultdict(list)
    for name, lane in asyncio.run(ask()).items():
        users[lane].append(name)
    assert len(users) == count
    return list(users.values())


# Batches


def test_single_command(database_url: str, db: Engine) -> None:
    """A command that finds its lane idle runs at once, in a transaction of its own."""

    async def one_by_one(lanes: Lanes) -> list[int]:
        return [await lanes.run(scribe, note.user_id, note) for note in notes("ada ben ada")]

    scribe = Scribe()
    with running(database_url) as (lanes, _):
        assert asyncio.run(one_by_one(lanes)) == [1, 2, 3]
    assert read_written(db) == scribe.calls == [[Note("ada", 1)], [Note("ben", 2)], [Note("ada", 3)]]


def test_group_commit(database_url: str, db: Engine) -> None:
    """Commands that queue up during a transaction share the next one, and each caller gets its own outcome."""

    async def crowd(lanes: Lanes, holder: Connection) -> list[Any]:
        first = await send(lanes, scribe, notes("ada"))
        await asyncio.to_thread(wait_until_blocked, db, 1)
        others = await send(lanes, scribe, notes("ben ada cyd ben ada"))
        holder.commit()
        return await outcomes(first + others)

    with writing(db) as connection:
        touch(connection, ["ada"])
    scribe = Scribe(before=lambda connection, _: touch(connection, ["ada"]))
    with running(database_url) as (lanes, _), holding_state(db, "ada", LINUCB) as holder:
        assert asyncio.run(crowd(lanes, holder)) == [1, 1, 2, 3, 4, 5]
    assert read_written(db) == scribe.calls == [notes("ada"), notes("ben ada cyd ben ada")]


def test_batch_size(database_url: str, db: Engine) -> None:
    """A transaction holds at most `batch` commands; the others go into the next one."""
    scribe = Scribe()
    seven = notes("ada ben ada cyd ben ada ben")
    with running(database_url, batch=3) as (lanes, _):
        assert asyncio.run(send_together(lanes, scribe, seven)) == [1, 2, 3, 4, 5, 6, 7]
    assert read_written(db) == scribe.calls == [seven[:3], seven[3:6], seven[6:]]


def test_refused_command(database_url: str, db: Engine) -> None:
    """A refusal is raised for its own caller; the transaction is committed for the others."""

    def refuse(connection: Writing, commands: Sequence[Note]) -> list[Any]:
        return [OtherTipError("no") if number == 2 else number for number in scribe(connection, commands)]

    async def three(lanes: Lanes) -> list[Any]:
        async with busy(lanes):
            handlers = [asyncio.create_task(lanes.run(refuse, note.user_id, note)) for note in notes("ada ben cyd")]
            await asyncio.sleep(0)
        return await outcomes(handlers)

    scribe = Scribe()
    with running(database_url) as (lanes, _):
        first, refused, third = asyncio.run(three(lanes))
    assert (first, third) == (1, 3)
    assert isinstance(refused, OtherTipError)
    assert read_written(db) == scribe.calls == [notes("ada ben cyd")]


# Order


async def send_mixed(lanes: Lanes, sent: Sequence[tuple[Scribe, Note]]) -> None:
    """Send notes to several scribes while the lane is busy; check their outcomes."""
    async with busy(lanes):
        handlers = [handler for service, note in sent for handler in await send(lanes, service, [note])]
    assert await outcomes(handlers) == [note.number for _, note in sent]


def test_one_service_a_transaction(database_url: str, db: Engine) -> None:
    """Two services share no transaction; a command may overtake other users' commands, never those of its own user."""
    a, b = Scribe("a"), Scribe("b")
    sent = list(zip([a, b, a, a, b, a, b], notes("ada ada ada ben ben cyd cyd"), strict=True))
    with running(database_url) as (lanes, _):
        asyncio.run(send_mixed(lanes, sent))
    in_order = [[1, 4, 6], [2, 5, 7], [3]]
    assert [[note.number for note in transaction] for transaction in read_written(db)] == in_order
    assert (len(a.calls), len(b.calls)) == (2, 1)


def test_order_after_a_full_batch(database_url: str, db: Engine) -> None:
    """A command that finds the batch full is not overtaken by a later one of its user."""
    a, b = Scribe("a"), Scribe("b")
    sent = list(zip([a, a, b, a, a], notes("ada ben ada ada cyd"), strict=True))
    with running(database_url, batch=2) as (lanes, _):
        asyncio.run(send_mixed(lanes, sent))
    in_order = [[1, 2], [3], [4, 5]]
    assert [[note.number for note in transaction] for transaction in read_written(db)] == in_order


@pytest.mark.parametrize("one_user", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_order_of_each_user(database_url: str, db: Engine, seed: int, one_user: bool) -> None:
    """Commands of a user are run in the order of their arrival, whatever services and users share the lane."""
    rng = random.Random(seed)  # noqa: S311
    users = rng.choices(["ada", "ben", "cyd", "dora"], [6, 3, 2, 1], k=120)
    scribes = [Scribe(name) for name in "abc"]
    sent = [(rng.choice(scribes), note) for note in notes(" ".join(users))]
    with running(database_url, batch=5, one_user=one_user) as (lanes, _):
        asyncio.run(send_mixed(lanes, sent))
    transactions = read_written(db)
    service_of = {note: service for service, note in sent}
    done = [note for transaction in transactions for note in transaction]
    for user_id in set(users):
        assert [note for note in done if note.user_id == user_id] == [n for _, n in sent if n.user_id == user_id]
    assert len(done) == len(sent)
    for transaction in transactions:
        assert len({service_of[note] for note in transaction}) == 1
        assert len(transaction) <= 5
        assert len({note.user_id for note in transaction}) == 1 or not one_user
    assert max(map(len, transactions)) > 1
    # No command waits for ever: each transaction holds the first one that was waiting.
    for place, transaction in enumerate(transactions):
        waiting = [note for later in transactions[place:] for note in later]
        assert min(waiting, key=lambda note: note.number) in transaction


def test_one_user_a_transaction(database_url: str, db: Engine) -> None:
    """With `one_user`, a user's commands share a transaction with each other, and with no other user's."""
    scribe = Scribe()
    with running(database_url, one_user=True) as (lanes, _):
        asyncio.run(send_together(lanes, scribe, notes("ada ben ada cyd ben")))
    by_user = [[Note("ada", 1), Note("ada", 3)], [Note("ben", 2), Note("ben", 5)], [Note("cyd", 4)]]
    assert read_written(db) == scribe.calls == by_user


@pytest.mark.parametrize("one_user", [False, True])
def test_batched_services_equal_single_calls(database_url: str, db: Engine, one_user: bool) -> None:
    """Decisions, rewards, corrections and resets in batches leave the same rows, bit for bit, as one by one."""
    early = scores(1, 60)
    queue: list[tuple[Any, str, Any]] = [
        *((score, one.user_id, one) for one in early),
        *((learn, one.user_id, one) for one in rewards(2, 40)),
        *((learn, one.user_id, one) for one in reactions_by_id(3, early, 60)),
        *((correct, one.user_id, one) for one in corrections(4, early, 20)),
        *((reset, name, name) for name in ("ada", "ben")),
    ]
    random.Random(5).shuffle(queue)  # noqa: S311

    async def at_once(lanes: Lanes) -> list[Any]:
        async with busy(lanes):
            handlers = [asyncio.create_task(lanes.run(*call)) for call in queue]
            await asyncio.sleep(0)
        return await outcomes(handlers)

    with running(database_url, batch=16, one_user=one_user) as (lanes, _):
        in_lanes = list(map(make_comparable, asyncio.run(at_once(lanes))))
    rows = sorted(everything(db), key=repr)
    assert_folded(db)
    with writing(db) as connection:
        for table in ("policy_state", "feature_history", "reward_ledger"):
            connection.execute(text(f"DELETE FROM oo_ml.{table}"))  # noqa: S608
    for (service, _, command), outcome in zip(queue, in_lanes, strict=True):
        with writing(db) as connection:
            assert make_comparable(service(connection, [command])[0]) == outcome
    assert sorted(everything(db), key=repr) == rows


# Lanes


def test_lane_of_a_user(database_url: str) -> None:
    """A user always gets the same lane, and all lanes are used."""

    async def thrice(lanes: Lanes, users: Sequence[str]) -> list[str]:
        return list(await asyncio.gather(*(lanes.run(touch, user, user) for user in users)))

    users = [f"u{number}" for number in range(60)]
    with running(database_url, lanes=3) as (lanes, _):
        names = asyncio.run(thrice(lanes, users * 3))
    by_user = {user: set(names[place::60]) for place, user in enumerate(users)}
    assert {len(lanes_of_user) for lanes_of_user in by_user.values()} == {1}
    assert set(names) == {"lane-0", "lane-1", "lane-2"}


def test_locked_row_delays_only_its_lane(database_url: str, db: Engine) -> None:
    """While a lane waits for a locked row, the users of other lanes go on; those behind it are served afterwards."""

    async def both(lanes: Lanes, held: str, behind: str, others: Sequence[str], holder: Connection) -> None:
        first = asyncio.create_task(lanes.run(touch, held, held))
        await asyncio.to_thread(wait_until_blocked, db, 1)
        second = asyncio.create_task(lanes.run(touch, behind, behind))
        for other in others:
            await lanes.run(touch, other, other)
        assert not first.done()
        assert not second.done()
        holder.commit()
        await asyncio.gather(first, second)

    with running(database_url, lanes=2) as (lanes, _):
        [[held, behind, *_], others] = users_of(lanes, 2)
        with holding_state(db, held, LINUCB) as holder:
            asyncio.run(both(lanes, held, behind, others, holder))


# Queues


def test_queue_is_bounded(database_url: str, db: Engine) -> None:
    """A command that finds the queue full is refused at once and never run; the commands in the queue are."""

    async def crowd(lanes: Lanes, user: str, other: str) -> list[Any]:
        async with busy(lanes, user):
            accepted = await send(lanes, scribe, [Note(user, 1), Note(user, 2)])
            for number in (3, 4):
                with pytest.raises(OverloadedError):
                    await lanes.run(scribe, user, Note(user, number))
            assert await lanes.run(scribe, other, Note(other, 5)) == 5
            assert not any(handler.done() for handler in accepted)
        make_comparable = await outcomes(accepted)
        # And the queue has room again.
        return [*make_comparable, await lanes.run(scribe, user, Note(user, 6))]

    scribe = Scribe()
    with running(database_url, lanes=2, queue=40) as (lanes, _):
        [[user, *_], [other, *_]] = users_of(lanes, 2)
    with running(database_url, lanes=2, queue=2) as (lanes, _):
        assert asyncio.run(crowd(lanes, user, other)) == [1, 2, 6]
    assert sorted(note.number for transaction in read_written(db) for note in transaction) == [1, 2, 5, 6]


def test_full_lane_is_a_503(serve: Serve, db: Engine) -> None:
    """With one call under way and one in the queue, the third is refused at once and never counts; reads go on."""
    service = serve(lanes=1, lane_queue=1)
    service.client.post("/score", json=calls.score())
    with ThreadPoolExecutor(3) as clients, holding_state(db, "ada", LINUCB):
        first = clients.submit(service.client.post, "/reward", json=calls.reward(value=0.5))
        wait_until_blocked(db, 1)
        others = [clients.submit(service.client.post, "/reward", json=calls.reward(value=0.5)) for _ in range(2)]
        # The later one of the two finds the one place in the queue taken.
        refused = next(as_completed(others)).result()
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert refused.headers["Retry-After"] == "1"
        assert service.client.get("/stats/ada").json()["pulls"] == 1
        assert not first.done()
    assert sorted(call.result().status_code for call in (first, *others)) == [200, 200, 503]
    assert scalar(db, "SELECT cumulative_reward FROM oo_ml.policy_state") == 1.0
