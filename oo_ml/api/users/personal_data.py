"""All that is known of a person: handed out, and erased."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from os import SEEK_END
from typing import IO, Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from oo_ml.api.bodies import answer
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.openapi import documented
from oo_ml.api.paths import REFUSALS, EncodedUserId, decode_user_id
from oo_ml.api.users.schemas import EraseAnswer, ExportAnswer
from oo_ml.errors import ExportFileError
from oo_ml.services.users.erase import erase
from oo_ml.services.users.export import export

router = APIRouter(tags=["people"], dependencies=[KNOWN_PARAMETERS_ONLY])

_CHUNK: Final = 65_536


async def _until_answered() -> AsyncIterator[ExitStack]:
    """Yield what closes files once the answer is sent, or its reader has gone away."""
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
    **documented("exportUser", gives=ExportAnswer, raises=(*REFUSALS, ExportFileError)),
)
async def export_user(
    request: Request, user_id: EncodedUserId, files: Annotated[ExitStack, Depends(_until_answered)]
) -> Response:
    """Return every row about a user from every table, as one document that `oo-ml replay` reads.

    For an unknown user the tables are empty.
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
