"""What is known of one person, and starting them afresh."""

from typing import Any

from fastapi import APIRouter, Request, Response

from oo_ml.api.bodies import answer
from oo_ml.api.dependencies import services
from oo_ml.api.openapi import documented
from oo_ml.api.paths import REFUSALS, EncodedUserId, decode_user_id
from oo_ml.api.schemas import Ok
from oo_ml.api.users.schemas import EgreedyStatsAnswer, FeaturesAnswer, HistoryEntry, StatsAnswer
from oo_ml.domain.features import LABELS
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.services.decisions.reset import reset
from oo_ml.services.users.stats import Stats, StatsCommand, features, stats

router = APIRouter(tags=["people"])


@router.post(
    "/reset/{user_id:path}",
    summary="Reset a user",
    **documented("reset", gives=Ok, raises=REFUSALS),
)
async def reset_user(request: Request, user_id: EncodedUserId) -> Response:
    """Start state, counters and history of both policies afresh. An unknown user is no error."""
    name = decode_user_id(user_id)
    await services(request).lanes.run(reset, name, name)
    return answer(Ok())


# Before /stats/{user_id}, which would take it for a user whose id begins with egreedy/.
@router.get(
    "/stats/egreedy/{user_id:path}",
    summary="Get the stats of egreedy-v1",
    **documented("getStatsEgreedy", gives=EgreedyStatsAnswer, raises=REFUSALS),
)
async def stats_egreedy(request: Request, user_id: EncodedUserId) -> Response:
    """Return counters, exploration rate and theta (7 numbers) of a user; zeros for an unknown user."""
    name = decode_user_id(user_id)
    known = await _stats(request, name, EPSILON_GREEDY)
    return answer(
        EgreedyStatsAnswer(
            **_counters(name, known),
            policy=EPSILON_GREEDY,
            exploration_rate=known.exploration_rate,
            feature_labels=list(LABELS),
        )
    )


@router.get(
    "/stats/{user_id:path}",
    summary="Get the stats of linucb-v1",
    **documented("getStats", gives=StatsAnswer, raises=REFUSALS),
)
async def stats_linucb(request: Request, user_id: EncodedUserId) -> Response:
    """Return counters and theta (5 numbers) of a user; zeros for an unknown user."""
    name = decode_user_id(user_id)
    return answer(StatsAnswer(**_counters(name, await _stats(request, name, LINUCB))))


@router.get(
    "/features/{user_id:path}",
    summary="Get the latest decisions",
    **documented("getFeatures", gives=FeaturesAnswer, raises=REFUSALS),
)
async def features_of(request: Request, user_id: EncodedUserId) -> Response:
    """Return the last 100 decisions of both policies since the last reset, the oldest first."""
    name = decode_user_id(user_id)
    [history] = await services(request).readers.run(features, [name])
    return answer(
        FeaturesAnswer(
            user_id=name,
            history=[
                HistoryEntry(
                    ts=entry.decided_at,
                    features=entry.features,
                    score=entry.score,
                    tip_id=entry.tip_id,
                    policy=entry.policy,
                )
                for entry in history
            ],
        )
    )


async def _stats(request: Request, user_id: str, policy: str) -> Stats:
    [known] = await services(request).readers.run(stats, [StatsCommand(user_id, policy)])
    return known


def _counters(user_id: str, known: Stats) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "pulls": known.pulls,
        "reward_count": known.reward_count,
        "cumulative_reward": known.cumulative_reward,
        "estimated_mean_reward": known.estimated_mean_reward,
        "theta": known.theta,
        "last_updated": known.last_updated,
    }
