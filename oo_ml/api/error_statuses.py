"""The HTTP status of each error class, and with it the set of codes that a client can receive."""

from collections.abc import Iterator
from typing import Final

from oo_ml import errors
from oo_ml.errors import OoMlError

RETRY_AFTER_SECONDS: Final = 1

# A class without a status here has that of its base class; a class that has none is raised by the command line only.
_STATUS: Final[dict[type[OoMlError], int]] = {
    errors.UnexpectedError: 500,
    errors.InvalidRequestError: 422,
    errors.NotFoundError: 404,
    errors.MethodNotAllowedError: 405,
    errors.MalformedRequestError: 400,
    errors.SlowRequestError: 408,
    errors.HostNotAllowedError: 403,
    errors.CrossSiteError: 403,
    errors.UnauthenticatedError: 401,
    errors.MissingScopeError: 403,
    errors.ContentTooLargeError: 413,
    errors.UnsupportedMediaTypeError: 415,
    errors.UnavailableError: 503,
    errors.GatewayError: 502,
    errors.InvalidReplyError: 502,
    errors.NoCandidatesError: 422,
    errors.UnknownDecisionError: 404,
    errors.DecisionExistsError: 409,
    errors.DecisionTooOldError: 422,
    errors.OtherTipError: 409,
    errors.IdempotencyKeyReusedError: 409,
    errors.UnknownPromptVersionError: 422,
    errors.PromptVersionNotFoundError: 404,
    errors.RetiredPromptVersionError: 422,
    errors.PromptVersionExistsError: 409,
    errors.InvalidTemplateError: 422,
    errors.ExportFileError: 500,
}


def _and_subclasses(error: type[OoMlError]) -> Iterator[type[OoMlError]]:
    """Yield a class and the classes derived from it, a base before its subclasses."""
    yield error
    for subclass in error.__subclasses__():
        yield from _and_subclasses(subclass)


STATUSES: Final = {
    error: next(_STATUS[base] for base in error.__mro__ if base in _STATUS)
    for error in _and_subclasses(OoMlError)
    if not _STATUS.keys().isdisjoint(error.__mro__)
}
CODES: Final = tuple(sorted({error.code for error in STATUSES}))

# Only these raise them: /generate, /readyz, and the server before any call.
_OF_OTHERS: Final = {
    errors.GatewayUnreachableError,
    errors.UnsuitableDatabaseError,
    errors.DrainingError,
    errors.TooManyConnectionsError,
}
# Every call that uses the database can be answered with each of these.
DATABASE: Final = tuple(error for error in _and_subclasses(errors.UnavailableError) if error not in _OF_OTHERS)
