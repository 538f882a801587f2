"""Streams: simulated users, decisions and reactions, drawn from a seed before any policy meets them.

Every candidate of every decision has its reward, so all policies meet the same users and the same reactions.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

CANDIDATES: Final = 10
# Half of the candidates are tips that other users get too.
_TIPS: Final = 100
_TIPS_OF_DECISION: Final = 5
_MOST_DECISIONS: Final = 100
_SPREAD_OF_DECISIONS: Final = 0.9
_SPREAD_OF_HOURS: Final = 4.0
_NOISE: Final = 0.55
_STEPS: Final = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
# Of is_overdue, age / 30 and (priority - 1) / 3 of the candidates.
_MEANS: Final = np.array([0.35, 0.07, 0.42])
_DEVIATIONS: Final = np.array([0.477, 0.135, 0.345])


@dataclass(frozen=True, slots=True)
class Stream:
    """A kind of users.

    Attributes:
        limit: the regret that pooled-v1 may have at most, as a share of LinUCB's.
        hours: whether taste depends on the hour, and some tips are better than others for all users.
        own: the share of the variance of taste that is the user's own; the rest is common to all users.
        users: their number.
        arrivals: the number of rounds in which they arrive. A round is a day.
        median: of the number of decisions of a user, one a round.
        delay: the number of rounds after which a reward is known.
        missing: the share of rewards that are never known.
        turn: the round from which the common taste is the opposite; None: never.
    """

    name: str
    limit: float
    hours: bool
    own: float
    users: int = 300
    arrivals: int = 60
    median: int = 15
    delay: int = 1
    missing: float = 0.0
    turn: int | None = None


STREAMS: Final = (
    Stream("alike", 0.30, hours=False, own=0.0),
    Stream("half", 0.80, hours=False, own=0.5),
    Stream("own", 1.15, hours=False, own=1.0),
    Stream("few users", 0.90, hours=False, own=0.5, users=30, arrivals=30),
    Stream("hours", 0.60, hours=True, own=0.5),
    Stream("hours, late and silent", 0.57, hours=True, own=0.5, delay=4, missing=0.4),
    Stream("hours, season", 0.78, hours=True, own=0.5, median=30, turn=60),
)


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The m decisions of a stream, in order of their rounds, with n candidates each.

    Attributes:
        rounds: when the decision is made, shape (m,).
        users: from 0, shape (m,).
        numbers: the decision is the user's first, second and so on, from 1, shape (m,).
        known: the round from which the reward is known; -1: never, shape (m,).
        hours: of the day, whole numbers, shape (m,).
        is_overdue, age, priority: of the candidates, shape (m, n).
        means: the expected reward, shape (m, n).
        rewards: shape (m, n).
        seeds: random numbers for the policy's own draw, shape (m,).
    """

    rounds: NDArray[np.intp]
    users: NDArray[np.intp]
    numbers: NDArray[np.intp]
    known: NDArray[np.intp]
    hours: NDArray[np.intp]
    is_overdue: NDArray[np.bool_]
    age: NDArray[np.float64]
    priority: NDArray[np.intp]
    means: NDArray[np.float64]
    rewards: NDArray[np.float64]
    seeds: NDArray[np.uint64]

    @property
    def regret(self) -> NDArray[np.float64]:
        """The expected reward of the best candidate less that of each candidate, shape (m, n)."""
        best: NDArray[np.float64] = self.means.max(axis=1, keepdims=True)
        return best - self.means


def draw(stream: Stream, seed: int) -> Drawn:
    """Return the decisions of a stream; the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    arrivals = rng.integers(0, stream.arrivals, stream.users)
    counts = np.ceil(rng.lognormal(math.log(stream.median), _SPREAD_OF_DECISIONS, stream.users))
    counts = np.minimum(counts, _MOST_DECISIONS).astype(np.intp)
    peaks = rng.uniform(0, 24, stream.users)
    users = np.repeat(np.arange(stream.users), counts)
    numbers = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort(arrivals[users] + numbers, kind="stable")
    users, numbers = users[order], numbers[order]
    rounds = arrivals[users] + numbers
    m = len(users)
    hours = np.floor(peaks[users] + rng.normal(0, _SPREAD_OF_HOURS, m)).astype(np.intp) % 24
    is_overdue = rng.random((m, CANDIDATES)) < _MEANS[0]
    age = np.where(is_overdue, np.minimum(np.ceil(rng.exponential(6, (m, CANDIDATES))), 30), 0)
    priority = rng.choice(4, (m, CANDIDATES), p=[0.3, 0.3, 0.25, 0.15]) + 1
    z = np.stack([is_overdue, age / 30, (priority - 1) / 3], axis=2)
    latent = _draw_taste(rng, stream, rounds, users, hours, z)
    noise = rng.normal(0, _NOISE, (m, CANDIDATES))
    known = np.where(rng.random(m) < stream.missing, -1, rounds + stream.delay)
    return Drawn(
        rounds=rounds,
        users=users,
        numbers=numbers + 1,
        known=known,
        hours=hours,
        is_overdue=is_overdue,
        age=age,
        priority=priority,
        means=_expect(latent),
        rewards=np.clip(np.round((latent + noise) * 2) / 2, -1, 1) + 0.0,
        seeds=rng.integers(0, 2**63, m, np.uint64),
    )


def _draw_taste(  # noqa: PLR0913, PLR0917 - the parts of a decision
    rng: np.random.Generator,
    stream: Stream,
    rounds: NDArray[np.intp],
    users: NDArray[np.intp],
    hours: NDArray[np.intp],
    z: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return, shape (m, n), how much each user likes each candidate, before noise and rounding."""
    angle = (2 * np.pi / 24 * hours)[:, np.newaxis, np.newaxis]
    waves = np.broadcast_to(np.concatenate([np.sin(angle), np.cos(angle)], axis=2), (*z.shape[:2], 2))
    scale = 1 / math.sqrt(3) / _DEVIATIONS
    if stream.hours:
        centred = z - _MEANS
        products = math.sqrt(2) * (waves[..., np.newaxis] * centred[..., np.newaxis, :]).reshape(*z.shape[:2], 6)
        x = np.concatenate([np.ones((*z.shape[:2], 1)), waves, centred, products], axis=2)
        scales = np.concatenate([[0.2, 0.1, 0.1], 0.25 * scale, np.tile(0.18 * scale, 2)])
    else:
        x = np.concatenate([waves, z], axis=2)
        scales = np.concatenate([[0.15, 0.15], 0.25 * scale])
    common = math.sqrt(1 - stream.own) * scales * rng.normal(size=len(scales))
    own = math.sqrt(stream.own) * scales * rng.normal(size=(stream.users, len(scales)))
    signs = np.ones(len(rounds)) if stream.turn is None else np.where(rounds < stream.turn, 1.0, -1.0)
    taste = signs[:, np.newaxis] * common + own[users]
    latent: NDArray[np.float64] = np.einsum("mnd,md->mn", x, taste)
    if stream.hours:
        tips = rng.random((len(rounds), _TIPS)).argsort(axis=1)[:, :_TIPS_OF_DECISION]
        latent += 0.15
        latent[:, :_TIPS_OF_DECISION] += rng.normal(0, 0.12, _TIPS)[tips]
    return latent


def _expect(latent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of latent + noise rounded to the nearest step: a step up for each edge that it is above."""
    erfc = np.frompyfunc(math.erfc, 1, 1)
    edges = (_STEPS[1:] + _STEPS[:-1]) / 2
    means = np.full_like(latent, _STEPS[0])
    for edge in edges:
        means += (_STEPS[1] - _STEPS[0]) / 2 * erfc((edge - latent) / (_NOISE * math.sqrt(2))).astype(np.float64)
    return means
