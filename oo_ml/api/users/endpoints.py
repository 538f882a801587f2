"""Users: stats, latest decisions, reset, verify, export and erase."""

import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from os import SEEK_END
from typing import IO, Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from oo_ml.api.access.scopes import action_of
from oo_ml.api.bodies import answer
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.openapi import documented
from oo_ml.api.paths import REFUSALS, UserIdInPath
from oo_ml.api.raw_features import show_features
from oo_ml.api.schemas import Ok
from oo_ml.api.users import schemas
from oo_ml.domain.access import Scope
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import ExportFileError
from oo_ml.files.export_document import FORMAT, FORMAT_VERSION
from oo_ml.services.access.audit_log import audited, record
from oo_ml.services.audit.verify import verify_users
from oo_ml.services.decisions.reset import reset
from oo_ml.services.users.erase import erase
from oo_ml.services.users.export import export
from oo_ml.services.users.stats import StatsCommand, read_features, read_stats

router = APIRouter(tags=["users"])
# The calls that are not the contract's refuse unknown parameters.
strict_router = APIRouter(prefix="/users/{user_id}", tags=["users"], dependencies=[KNOWN_PARAMETERS_ONLY])

_CHUNK: Final = 65_536
_JSON_LINES: Final = "application/x-ndjson"
_EXAMPLE: Final[list[dict[str, Any]]] = [
    {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "release": "0.1.0",
        "schema": "0001",
        "exported_at": "2026-11-23T09:30:00.000000Z",
        "user_id": "ada",
        "history_from": None,
    },
    {
        "table": "prompt_assignments",
        "row": {
            "user_id": "ada",
            "prompt_version": "v1",
            "probability": 0.7,
            "assigned_at": "2026-11-20T08:00:00.000000Z",
        },
    },
    {"complete": True, "rows": 1},
]
_EXPORT: Final = {
    "description": """JSON Lines: a header, a line a row, the number of rows. Without its last line, a file is cut off.

Decisions from before `history_from` may be missing, because retention removed them; null: none are missing.
Timestamps are ISO 8601 in UTC, uuid is text, bytea lowercase hexadecimal, float8[] nested lists. Numbers are exact.""",
    "content": {
        _JSON_LINES: {
            "schema": {"type": "string"},
            "example": "".join(f"{json.dumps(line)}\n" for line in _EXAMPLE),
        }
    },
}


@router.post(
    "/reset/{user_id:path}",
    summary="Reset a user",
    **documented("reset", Scope.USERS, gives=Ok, raises=REFUSALS),
)
async def reset_user(request: Request, user_id: UserIdInPath) -> Response:
    """Begin a new epoch of every policy, with empty state and no latest decisions. An unknown user is no error."""
    await services(request).lanes.run(audited(reset, action_of(request, "user.reset")), user_id, user_id)
    return answer(Ok())


# Before /stats/{user_id}, which would take it for a user whose id begins with egreedy/.
@router.get(
    "/stats/egreedy/{user_id:path}",
    summary="Get the stats of egreedy-v1",
    **documented("getStatsEgreedy", Scope.READ, gives=schemas.EgreedyStatsAnswer, raises=REFUSALS),
)
async def stats_egreedy(request: Request, user_id: UserIdInPath) -> Response:
    """Return counters, exploration rate and theta (7 numbers) of a user; zeros for an unknown user."""
    return await _stats(request, user_id, EPSILON_GREEDY, schemas.EgreedyStatsAnswer)


@router.get(
    "/stats/{user_id:path}",
    summary="Get the stats of linucb-v1",
    **documented("getStats", Scope.READ, gives=schemas.StatsAnswer, raises=REFUSALS),
)
async def stats_linucb(request: Request, user_id: UserIdInPath) -> Response:
    """Return counters and theta (5 numbers) of a user; zeros for an unknown user."""
    return await _stats(request, user_id, LINUCB, schemas.StatsAnswer)


@router.get(
    "/features/{user_id:path}",
    summary="Get the latest decisions",
    **documented("getFeatures", Scope.READ, gives=schemas.FeaturesAnswer, raises=REFUSALS),
)
async def features_of(request: Request, user_id: UserIdInPath) -> Response:
    """Return the last 100 decisions of all policies since the last reset, the oldest first."""
    [recent] = await services(request).readers.run(read_features, [user_id])
    history = [
        schemas.HistoryEntry(
            ts=one.decided_at,
            features=show_features(one.policy, one.context, one.features, exploring=one.exploring),
            score=one.score,
            tip_id=one.tip_id,
            policy=one.policy,
        )
        for one in recent
    ]
    return answer(schemas.FeaturesAnswer(user_id=user_id, history=history))


@strict_router.get(
    "/verify",
    summary="Verify a user's state",
    **documented("verifyUser", Scope.READ, gives=schemas.VerifyAnswer, raises=REFUSALS),
)
async def verify_user(request: Request, user_id: UserIdInPath) -> Response:
    """Fold the ledger and compare the result with A, b and the counters, bit for bit; compare ledger and decisions.

    The call locks and writes nothing. An unknown user has no states and is verified.
    """
    [report] = await services(request).long.run(verify_users, [user_id])
    return answer(
        schemas.VerifyAnswer(
            user_id=user_id,
            verified=report.difference is None,
            states=report.states,
            changes=report.entries,
            decisions=report.decisions,
            difference=None if report.difference is None else report.difference.sentence,
        )
    )


async def _until_answered() -> AsyncIterator[ExitStack]:
    """Yield a stack that closes its files once the answer is sent or the client has disconnected."""
    with ExitStack() as files:
        yield files


@strict_router.delete(
    "",
    summary="Erase a user",
    **documented("eraseUser", Scope.USERS, gives=schemas.EraseAnswer, raises=REFUSALS),
)
async def erase_user(request: Request, user_id: UserIdInPath) -> Response:
    """Delete every row about a user from every table, in one transaction. An unknown user is no error.

    A later call with this id starts a new user.
    """
    [erased] = await services(request).long.run(audited(erase, action_of(request, "user.erased")), [user_id])
    return answer(schemas.EraseAnswer(user_id=user_id, erased=erased, total=sum(erased.values())))


@strict_router.get(
    "/export",
    summary="Export a user",
    response_class=StreamingResponse,
    **documented("exportUser", Scope.USERS, gives=_EXPORT, raises=(*REFUSALS, ExportFileError)),
)
async def export_user(
    request: Request, user_id: UserIdInPath, files: Annotated[ExitStack, Depends(_until_answered)]
) -> Response:
    """Return every row about a user from every table, of one moment, in the format that `oo-ml replay` reads.

    An unknown user has no rows.
    """
    await services(request).writers.run(record, [action_of(request, "user.exported")])
    service = partial(export, exported_at=datetime.now(UTC))
    [file] = await services(request).long.run(service, [user_id])
    files.enter_context(file)
    headers = {
        "Content-Disposition": 'attachment; filename="oo-ml-export.jsonl"',
        "Content-Length": str(_length(file)),
        "Cache-Control": "no-store",
    }
    # A client that reads slowly keeps a file open, and no connection to the database.
    return StreamingResponse(iter(partial(file.read, _CHUNK), b""), headers=headers, media_type=_JSON_LINES)


async def _stats(request: Request, user_id: str, policy: str, model: type[schemas.StatsAnswer]) -> Response:
    app = services(request)
    command = StatsCommand(user_id, await app.policies.find(policy), datetime.now(UTC))
    [found] = await app.readers.run(read_stats, [command])
    return answer(model.model_validate(found))


def _length(file: IO[bytes]) -> int:
    length = file.seek(0, SEEK_END)
    file.seek(0)
    return length
