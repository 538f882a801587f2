"""The errors that a client can receive: their statuses and codes."""

from collections.abc import Iterator
from typing import Final, TypeVar

from oo_ml import errors
from oo_ml.errors import OoMlError

Class = TypeVar("Class")

RETRY_AFTER_SECONDS: Final = 1


def and_subclasses(base: type[Class]) -> Iterator[type[Class]]:
    """Yield a class and the classes derived from it, a base before its subclasses."""
    yield base
    for subclass in base.__subclasses__():
        yield from and_subclasses(subclass)


STATUSES: Final = {error: error.status for error in and_subclasses(OoMlError) if error.status is not None}
CODES: Final = tuple(sorted({error.code for error in STATUSES}))

# Only these raise them: /generate, /readyz, and the server before any call.
_OF_OTHERS: Final = {
    errors.GatewayUnreachableError,
    errors.UnsuitableDatabaseError,
    errors.DrainingError,
    errors.TooManyConnectionsError,
}
# Every call that uses the database can be answered with each of these.
DATABASE: Final = tuple(error for error in and_subclasses(errors.UnavailableError) if error not in _OF_OTHERS)
