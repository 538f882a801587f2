"""All that is known of a person: handed out, and erased."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from os import SEEK_END
from typing import IO, Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from oo_ml.api.bodies import answer, documented
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.paths import PROBLEMS, EncodedUserId, decode_user_id
from oo_ml.api.schemas.people import EraseAnswer, ExportAnswer
from oo_ml.services.erase import erase
from oo_ml.services.export import export

router = APIRouter(tags=["people"], dependencies=[KNOWN_PARAMETERS_ONLY])

_CHUNK: Final = 65_536


async def _until_answered() -> AsyncIterator[ExitStack]:
    """Yield what closes files once the answer is sent, or its reader has gone away."""
    with ExitStack() as files:
        yield files


@router.delete("/users/{user_id}", summary="Erase a person", **documented(None, EraseAnswer, PROBLEMS))
async def erase_user(request: Request, user_id: EncodedUserId) -> Response:
    """Delete every row of theirs in every table, in one transaction. Fine for somebody never seen.

    Whoever comes back under this id is somebody new.
    """
    name = decode_user_id(user_id)
    [erased] = await services(request).long.run(erase, [name])
    return answer(EraseAnswer(user_id=name, erased=erased, total=sum(erased.values())))


@router.get(
    "/users/{user_id}/export", summary="All that is known of a person", **documented(None, ExportAnswer, PROBLEMS)
)
async def export_user(
    request: Request, user_id: EncodedUserId, files: Annotated[ExitStack, Depends(_until_answered)]
) -> Response:
    """Return every row of theirs in every table, as one document that `oo-ml replay` reads.

    Empty tables for somebody never seen.
    """
    name = decode_user_id(user_id)
    service = partial(export, exported_at=datetime.now(UTC))
    [document] = await services(request).long.run(service, [name])
    files.enter_context(document)
    headers = {
        "Content-Disposition": 'attachment; filename="oo-ml-export.json"',
        "Content-Length": str(_length(document)),
        "Cache-Control": "no-store",
    }
    # Whoever reads it slowly keeps a file waiting, and no connection to the database.
    return StreamingResponse(iter(partial(document.read, _CHUNK), b""), headers=headers, media_type="application/json")


def _length(document: IO[bytes]) -> int:
    length = document.seek(0, SEEK_END)
    document.seek(0)
    return length
