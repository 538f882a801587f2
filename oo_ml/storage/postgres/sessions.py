"""Sessions as types: a function tells by its argument whether it reads only, or locks and writes too.

mypy then refuses to run a service that writes on the pool of readers, whose connections are read-only. Every writing
session is a reading session, and both are SQLAlchemy's Connection.
"""

from typing import NewType, TypeVar

from sqlalchemy import Connection

Reading = NewType("Reading", Connection)
Writing = NewType("Writing", Reading)

Session = TypeVar("Session", bound=Connection)
