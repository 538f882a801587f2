"""Export and erasure of a user."""

import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from os import SEEK_END
from typing import IO, Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from oo_ml.api.bodies import answer
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.openapi import documented
from oo_ml.api.paths import REFUSALS, EncodedUserId, decode_user_id
from oo_ml.api.users.schemas import EraseAnswer
from oo_ml.errors import ExportFileError
from oo_ml.files.export_document import FORMAT, FORMAT_VERSION
from oo_ml.services.users.erase import erase
from oo_ml.services.users.export import export

router = APIRouter(tags=["people"], dependencies=[KNOWN_PARAMETERS_ONLY])

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


async def _until_answered() -> AsyncIterator[ExitStack]:
    """Yield a stack that closes its files once the answer is sent or the client has disconnected."""
    with ExitStack() as files:
        yield files


@router.delete(
    "/users/{user_id}",
    summary="Erase a user",
    **documented("eraseUser", gives=EraseAnswer, raises=REFUSALS),
)
async def erase_user(request: Request, user_id: EncodedUserId) -> Response:
    """Delete every row about a user from every table, in one transaction. An unknown user is no error.

    A later call with this id begins with a new user.
    """
    name = decode_user_id(user_id)
    [erased] = await services(request).long.run(erase, [name])
    return answer(EraseAnswer(user_id=name, erased=erased, total=sum(erased.values())))


@router.get(
    "/users/{user_id}/export",
    summary="Export a user",
    response_class=StreamingResponse,
    **documented("exportUser", gives=_EXPORT, raises=(*REFUSALS, ExportFileError)),
)
async def export_user(
    request: Request, user_id: EncodedUserId, files: Annotated[ExitStack, Depends(_until_answered)]
) -> Response:
    """Return every row of a user from every table, as they are at one moment, in the format that `oo-ml replay` reads.

    An unknown user has no rows.
    """
    name = decode_user_id(user_id)
    service = partial(export, exported_at=datetime.now(UTC))
    [file] = await services(request).long.run(service, [name])
    files.enter_context(file)
    headers = {
        "Content-Disposition": 'attachment; filename="oo-ml-export.jsonl"',
        "Content-Length": str(_length(file)),
        "Cache-Control": "no-store",
    }
    # A client that reads slowly keeps a file open, and no connection to the database.
    return StreamingResponse(iter(partial(file.read, _CHUNK), b""), headers=headers, media_type=_JSON_LINES)


def _length(file: IO[bytes]) -> int:
    length = file.seek(0, SEEK_END)
    file.seek(0)
    return length
