"""The streams on which regret is measured: the same for the same seed, and with known best choices."""

from dataclasses import fields, replace
from typing import Final

import numpy as np
import pytest

from bench.regret import play
from bench.regret.measure import add_regret, measure
from bench.regret.play import POOLED, UNIFORM
from bench.regret.streams import CANDIDATES, STREAMS, Drawn, Stream, draw
from oo_ml.domain.policies import LINUCB

BY_NAME: Final = {one.name: one for one in STREAMS}
SMALL: Final = Stream("small", 1.0, hours=True, own=0.5, users=12, arrivals=6, median=8, delay=2, missing=0.3, turn=5)


def to_bytes(drawn: Drawn) -> list[bytes]:
    """Return every number of a stream."""
    return [getattr(drawn, one.name).tobytes() for one in fields(drawn)]


@pytest.mark.parametrize("stream", [*STREAMS, SMALL], ids=lambda one: one.name)
def test_seeds(stream: Stream) -> None:
    """The same seed gives the same stream, bit for bit, and another seed another one."""
    stream = replace(stream, users=12)
    assert to_bytes(draw(stream, 1)) == to_bytes(draw(stream, 1))
    assert draw(stream, 1).rewards.tobytes() != draw(stream, 2).rewards.tobytes()


def test_decisions() -> None:
    """Each user makes decisions on days in a row, numbered from 1; rounds are in order."""
    drawn = draw(BY_NAME["half"], 1)
    assert (np.diff(drawn.rounds) >= 0).all()
    for user in range(300):
        own = drawn.users == user
        count = int(own.sum())
        assert 1 <= count <= 100
        assert drawn.numbers[own].tolist() == list(range(1, count + 1))
        assert (np.diff(drawn.rounds[own]) == 1).all()
    assert 0 <= drawn.hours.min() <= drawn.hours.max() <= 23
    assert (drawn.age[~drawn.is_overdue] == 0).all()
    assert set(drawn.priority.ravel().tolist()) == {1, 2, 3, 4}


def test_reactions() -> None:
    """Rewards are of five values; their means are the expected rewards of the candidates."""
    drawn = draw(BY_NAME["hours"], 1)
    assert set(drawn.rewards.ravel().tolist()) == {-1.0, -0.5, 0.0, 0.5, 1.0}
    # 60,000 rewards: the standard error of each of ten means is about 0.007.
    by_mean = np.array_split(np.argsort(drawn.means, axis=None), 10)
    for places in by_mean:
        assert drawn.rewards.ravel()[places].mean() == pytest.approx(drawn.means.ravel()[places].mean(), abs=0.03)


def test_delay_and_missing() -> None:
    """A reward is known after the delay, and the missing ones never."""
    drawn = draw(BY_NAME["hours, late and silent"], 1)
    is_known = drawn.known >= 0
    assert (drawn.known[is_known] == drawn.rounds[is_known] + 4).all()
    assert is_known.mean() == pytest.approx(0.6, abs=0.03)


def test_regret() -> None:
    """The regret of the best candidate is 0, and that of every other is above; uniform draws are in between."""
    drawn = draw(SMALL, 1)
    assert add_regret(drawn, drawn.means.argmax(axis=1)) == (0, 0)
    worst = add_regret(drawn, drawn.means.argmin(axis=1))
    uniform = add_regret(drawn, play.play(play.load(UNIFORM), drawn).chosen)
    assert 0 < uniform.first < worst.first
    assert uniform.first <= uniform.overall


@pytest.mark.parametrize("name", play.PLAYERS)
def test_players(name: str) -> None:
    """The decisions of a policy depend on the stream alone, and use rewards only once they are known."""
    drawn = draw(SMALL, 1)
    chosen = play.play(play.load(name), drawn).chosen
    assert chosen.tolist() == play.play(play.load(name), drawn).chosen.tolist()
    assert 0 <= chosen.min() <= chosen.max() < CANDIDATES
    # The rewards of the last decisions, known too late for any other, change nothing.
    last = drawn.known >= drawn.rounds.max()
    changed = replace(drawn, rewards=np.where(last[:, np.newaxis], -drawn.rewards, drawn.rewards))
    assert play.play(play.load(name), changed).chosen[drawn.rounds < drawn.rounds.max()].tolist() == (
        chosen[drawn.rounds < drawn.rounds.max()].tolist()
    )
    never = replace(drawn, rewards=np.where((drawn.known < 0)[:, np.newaxis], 1.0, drawn.rewards))
    assert play.play(play.load(name), never).chosen.tolist() == chosen.tolist()


def test_users_who_are_alike() -> None:
    """If all users are alike, pooled-v1 has much less regret than LinUCB, and both less than uniform choices."""
    found = measure(replace(BY_NAME["alike"], users=60, arrivals=30), 1)
    pooled, linucb, uniform = (found.regrets[name].first for name in (POOLED, LINUCB, UNIFORM))
    assert pooled < 0.5 * linucb < 0.5 * uniform
    assert 0.9 <= found.covered <= 1
