"""Errors, one class an outcome.

A class's docstring is its default message; `code` is stable, so clients can match on it. The doors turn a class
into a status (api/errors.py) or an exit code (cli/main.py).
"""

from typing import ClassVar


class OoMlError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None) -> None:
        """Keep `message`, or the first line of the class's docstring."""
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0].rstrip("."))

    @property
    def message(self) -> str:
        """The sentence for the client or the user of the command line."""
        return str(self.args[0])


class UnexpectedError(OoMlError):
    """Internal error; the log of the service has the details."""

    code = "unexpected"


class InvalidRequestError(OoMlError):
    """A field of the request is invalid: `detail` says which, and why."""

    code = "invalid"


class NotFoundError(OoMlError):
    """Nothing is served at this path."""

    code = "not_found"


class MethodNotAllowedError(OoMlError):
    """This path is not served with this method."""

    code = "method_not_allowed"


class ContentTooLargeError(OoMlError):
    """The body is larger than OO_ML_MAX_BODY_BYTES."""

    code = "content_too_large"


class MalformedRequestError(OoMlError):
    """This is not an HTTP request that the service can read."""

    code = "malformed_request"


class SlowRequestError(OoMlError):
    """The request did not arrive in time."""

    code = "slow_request"


class UnsupportedMediaTypeError(OoMlError):
    """The body must be JSON: send `Content-Type: application/json`, and no Content-Encoding."""

    code = "unsupported_media_type"


class HostNotAllowedError(OoMlError):
    """The Host header names a host that is not in OO_ML_ALLOWED_HOSTS."""

    code = "host_not_allowed"


class CrossSiteError(OoMlError):
    """A page of another site sent this request; OO_ML_CORS_ORIGINS lists the sites that may."""

    code = "cross_site"


class UnauthenticatedError(OoMlError):
    """Send a valid API key: `Authorization: Bearer ooml_...`."""

    code = "unauthenticated"


class MissingScopeError(OoMlError):
    """The API key lacks the scope of this call."""

    code = "missing_scope"


class UnavailableError(OoMlError):
    """The service cannot answer at the moment; retry."""

    code = "unavailable"


class OverloadedError(UnavailableError):
    """Too many calls are waiting for the database."""

    code = "overloaded"


class TooManyConnectionsError(OverloadedError):
    """Too many connections are open."""


class DrainingError(UnavailableError):
    """The service is about to stop, and wants no new clients."""

    code = "draining"


class DatabaseUnavailableError(UnavailableError):
    """The database can't be reached."""

    code = "database_unavailable"


class DatabaseTimeoutError(UnavailableError):
    """The database did not answer in time."""

    code = "database_timeout"


class RowLockedError(DatabaseTimeoutError):
    """The database did not answer in time: another session holds a lock."""


class DatabaseReadOnlyError(UnavailableError):
    """The database accepts no writes at the moment."""

    code = "database_read_only"


class DatabaseRefusedError(UnavailableError):
    """The database denies the service a right that it needs."""

    code = "database_refused"


class SchemaNotReadyError(UnavailableError):
    """The database has not been migrated to this release: run `oo-ml db upgrade`."""

    code = "schema_not_ready"


class UnsuitableDatabaseError(UnavailableError):
    """This database can't hold the service's tables."""

    code = "unsuitable_database"


class GatewayUnreachableError(UnavailableError):
    """The language model gateway can't be reached."""

    code = "gateway_unreachable"


class GatewayError(OoMlError):
    """The language model gateway answered with an error."""

    code = "gateway_error"


class InvalidReplyError(OoMlError):
    """The language model's reply was not the JSON array asked for."""

    code = "invalid_reply"


class NoCandidatesError(OoMlError):
    """No candidates."""

    code = "no_candidates"


class UnknownDecisionError(OoMlError):
    """This user has no such decision."""

    code = "unknown_decision"


class DecisionExistsError(OoMlError):
    """This decision_id belongs to another request."""

    code = "decision_exists"


class DecisionTooOldError(OoMlError):
    """This decision_id is from a month past retention; use a new id for a new decision."""

    code = "decision_too_old"


class OtherTipError(OoMlError):
    """The decision was for another tip."""

    code = "other_tip"


class IdempotencyKeyReusedError(OoMlError):
    """This Idempotency-Key belongs to another request."""

    code = "idempotency_key_reused"


class UnknownPromptVersionError(OoMlError):
    """Unknown prompt_version."""

    code = "unknown_prompt_version"


class PromptVersionNotFoundError(UnknownPromptVersionError):
    """The registry holds no such prompt version."""


class RetiredPromptVersionError(OoMlError):
    """This prompt version is retired."""

    code = "retired_prompt_version"


class PromptVersionExistsError(OoMlError):
    """This prompt version is published already; a published version never changes."""

    code = "prompt_version_exists"


class ReservedPromptVersionError(PromptVersionExistsError):
    """No prompt version can be called auto: TIP_PROMPT_VERSION=auto means all of them."""

    code = "prompt_version_reserved"


class InvalidTemplateError(OoMlError):
    """The template can't be rendered."""

    code = "invalid_template"


class ConfigurationError(OoMlError):
    """The service can't start with these settings."""

    code = "configuration"


class MigrationRefusedError(OoMlError):
    """This migration is not possible."""

    code = "migration_refused"


class EmbeddedPostgresError(OoMlError):
    """The private PostgreSQL can't be started."""

    code = "embedded_postgres"


class ImportSourceError(OoMlError):
    """The files to import can't be read."""

    code = "import_source"


class ExportFileError(OoMlError):
    """The export can't be written or read."""

    code = "export_file"


class ReplayRefusedError(OoMlError):
    """This export can't be replayed here."""

    code = "replay_refused"


class EvaluationRefusedError(OoMlError):
    """The log does not support an evaluation of this policy."""

    code = "evaluation_refused"


class NothingToEvaluateError(EvaluationRefusedError):
    """The log holds no decision to evaluate."""


class LogContradictedError(OoMlError):
    """The ledger contradicts the stored decisions; run `oo-ml verify`."""

    code = "log_contradicted"


class LogFileError(OoMlError):
    """This file is not a decision log that can be evaluated."""

    code = "log_file"


class GrantRefusedError(OoMlError):
    """This role can't be made an analyst."""

    code = "grant_refused"


class KeyNotFoundError(OoMlError):
    """There is no such API key."""

    code = "key_not_found"


class KeyExistsError(OoMlError):
    """An API key in use has this name already."""

    code = "key_exists"
