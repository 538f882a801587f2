"""Paging: the parameters of every call that answers a list.

A cursor comes from the page before and is opaque to clients. In most lists it is the number of items before the page.
In the list of a user's decisions, which grows while it is read, it is the last decision of the page before.
"""

from typing import Annotated, Final
from uuid import UUID

from pydantic import BaseModel, Field, WithJsonSchema

MAX_LIMIT: Final = 1000

_CURSOR: Final = "`next_cursor` of the page before; left out: the first page"
_TEXT: Final = WithJsonSchema({"type": "string"})


class _Limited(BaseModel):
    limit: int = Field(100, ge=1, le=MAX_LIMIT, description="The most items in a page")


class Paging(_Limited):
    """A page of a list whose cursor is the number of items before the page."""

    cursor: Annotated[int | None, Field(ge=0, le=2**31), _TEXT] = Field(None, description=_CURSOR)


class DecisionPaging(_Limited):
    """A page of a user's decisions, whose cursor is the last decision of the page before."""

    cursor: Annotated[UUID | None, _TEXT] = Field(None, description=_CURSOR)
