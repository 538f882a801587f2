"""Errors, one class an outcome.

A class's docstring is its default message; `code` is stable, so clients can match on it. `status` is that of the HTTP
answer (api/errors.py); on the command line every error is exit code 1 (cli/main.py).
"""

from collections.abc import Sequence
from typing import ClassVar


class OoMlError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"
    # None: only the command line raises it.
    status: ClassVar[int | None] = None

    def __init_subclass__(cls, *, code: str | None = None, status: int | None = None) -> None:
        """Set the code and the status; each is that of the base class if it is not given."""
        cls.code, cls.status = code or cls.code, status or cls.status

    def __init__(self, message: str | None = None, *, cause: str = "") -> None:
        """Keep `message`, or the first line of the class's docstring; `cause` is for the operator alone."""
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0].rstrip("."))
        self.cause = cause

    @property
    def message(self) -> str:
        """The sentence for the client."""
        return str(self.args[0])

    @property
    def explanation(self) -> str:
        """The sentence for the log and the command line: it may name servers and roles."""
        return f"{self.message}: {self.cause}" if self.cause else self.message


class UnexpectedError(OoMlError, code="unexpected", status=500):
    """Internal error; the log of the service has the details."""


class InvalidRequestError(OoMlError, code="invalid", status=422):
    """A field of the request is invalid: `detail` says which, and why."""


class NotFoundError(OoMlError, code="not_found", status=404):
    """Nothing is served at this path."""


class MethodNotAllowedError(OoMlError, code="method_not_allowed", status=405):
    """This path is not served with this method."""


class ContentTooLargeError(OoMlError, code="content_too_large", status=413):
    """The body is larger than OO_ML_MAX_BODY_BYTES."""


class MalformedRequestError(OoMlError, code="malformed_request", status=400):
    """This is not an HTTP request that the service can read."""


class SlowRequestError(OoMlError, code="slow_request", status=408):
    """The request did not arrive in time."""


class HeadTooLargeError(OoMlError, code="head_too_large", status=431):
    """The head of the request is larger than OO_ML_MAX_HEAD_BYTES."""


class UnsupportedMediaTypeError(OoMlError, code="unsupported_media_type", status=415):
    """The body must be JSON: send `Content-Type: application/json`, and no Content-Encoding."""


class HostNotAllowedError(OoMlError, code="host_not_allowed", status=403):
    """The Host header names a host that is not in OO_ML_ALLOWED_HOSTS."""


class CrossSiteError(OoMlError, code="cross_site", status=403):
    """A page of another site sent this request; OO_ML_CORS_ORIGINS lists the sites that may."""


class UnauthenticatedError(OoMlError, code="unauthenticated", status=401):
    """Send a valid API key: `Authorization: Bearer ooml_...`."""


class MissingScopeError(OoMlError, code="missing_scope", status=403):
    """The API key lacks the scope of this call."""


class RateLimitedError(OoMlError, code="rate_limited", status=429):
    """The key has made as many calls as OO_ML_RATE_LIMIT allows; send the call again after `Retry-After` seconds."""

    def __init__(self, message: str | None = None, *, retry_after: int = 1) -> None:
        """Keep the message and the seconds after which a call is allowed."""
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(OoMlError, code="unavailable", status=503):
    """The service cannot answer at the moment; retry."""


class OverloadedError(UnavailableError, code="overloaded"):
    """Too many calls are waiting for the database."""


class TooManyConnectionsError(OverloadedError):
    """Too many connections are open."""


class DrainingError(UnavailableError, code="draining"):
    """The service is about to stop, and wants no new clients."""


class DatabaseUnavailableError(UnavailableError, code="database_unavailable"):
    """The database can't be reached."""


class UnusableAddressError(DatabaseUnavailableError):
    """OO_ML_DATABASE_URL can't be used."""


class DatabaseTimeoutError(UnavailableError, code="database_timeout"):
    """The database did not answer in time."""


class RowLockedError(DatabaseTimeoutError):
    """The database did not answer in time: another session holds a lock."""


class DatabaseReadOnlyError(UnavailableError, code="database_read_only"):
    """The database accepts no writes at the moment."""


class DatabaseRefusedError(UnavailableError, code="database_refused"):
    """The database denies the service a right that it needs."""


class LostStatementError(DatabaseRefusedError):
    """A connection pooler has lost prepared statements: set OO_ML_DATABASE_PREPARE_THRESHOLD=-1."""


class SchemaNotReadyError(UnavailableError, code="schema_not_ready"):
    """The database has not been migrated to this release: run `oo-ml db upgrade`."""


class UnsuitableDatabaseError(UnavailableError, code="unsuitable_database"):
    """This database can't hold the service's tables."""


class GatewayUnreachableError(UnavailableError, code="gateway_unreachable"):
    """The language model gateway can't be reached."""


class GatewayError(OoMlError, code="gateway_error", status=502):
    """The language model gateway answered with an error."""

    def __init__(self, message: str | None = None, *, retry_after: int | None = None) -> None:
        """Keep the message, and the seconds of the gateway's own Retry-After, None if it sent none."""
        super().__init__(message)
        self.retry_after = retry_after


class InvalidReplyError(OoMlError, code="invalid_reply", status=502):
    """The language model's reply was not the JSON array asked for."""


class NoCandidatesError(OoMlError, code="no_candidates", status=422):
    """No candidates."""


class UnknownDecisionError(OoMlError, code="unknown_decision", status=404):
    """This user has no such decision."""


class DecisionExistsError(OoMlError, code="decision_exists", status=409):
    """This decision_id belongs to another request."""


class DecisionTooOldError(OoMlError, code="decision_too_old", status=422):
    """This decision_id is from a month past retention; use a new id for a new decision."""


class OtherTipError(OoMlError, code="other_tip", status=409):
    """The decision was for another tip."""


class IdempotencyKeyReusedError(OoMlError, code="idempotency_key_reused", status=409):
    """This Idempotency-Key belongs to another request."""


class UnknownPromptVersionError(OoMlError, code="unknown_prompt_version", status=422):
    """Unknown prompt_version."""


class PromptVersionNotFoundError(UnknownPromptVersionError, status=404):
    """The registry holds no such prompt version."""


class RetiredPromptVersionError(OoMlError, code="retired_prompt_version", status=422):
    """This prompt version is retired."""


class PromptVersionExistsError(OoMlError, code="prompt_version_exists", status=409):
    """This prompt version is published already; a published version never changes."""


class ReservedPromptVersionError(PromptVersionExistsError, code="prompt_version_reserved"):
    """No prompt version can be called auto: TIP_PROMPT_VERSION=auto means all of them."""


class InvalidTemplateError(OoMlError, code="invalid_template", status=422):
    """The template can't be rendered."""


class UnknownPolicyError(OoMlError, code="unknown_policy", status=404):
    """Unknown policy."""


class UnreadablePolicyError(UnknownPolicyError, code="unreadable_policy", status=503):
    """This policy is of a later release, and this service can't read it; retry, another service may."""


class RetiredPolicyError(OoMlError, code="retired_policy", status=409):
    """This policy is retired: it learns from late rewards, and makes no more decisions."""


class PolicyExistsError(OoMlError, code="policy_exists", status=409):
    """This policy is published already; a published policy never changes."""


class ReservedPolicyNameError(PolicyExistsError, code="policy_name_reserved"):
    """No policy can have this name: `oo-ml evaluate` has a target of this name."""


class PolicyInUseError(OoMlError, code="policy_in_use"):
    """This policy has traffic; change the traffic first."""


class TrafficRefusedError(OoMlError, code="traffic_refused"):
    """The traffic can't be changed like this."""


class NoPriorError(OoMlError, code="no_prior"):
    """This policy is not pooled: its definition has no `evidence`."""


class FitFailedError(OoMlError, code="fit_failed"):
    """A prior could not be fitted, and stays as it is."""


class InvalidDefinitionError(InvalidRequestError):
    """The definition of the policy is invalid."""

    def __init__(self, problems: Sequence[tuple[tuple[str | int, ...], str]] = ()) -> None:
        """Keep the problems: the place of each, names of fields and indexes of lists, and a sentence."""
        super().__init__("; ".join(f"{describe_place(place) or 'definition'}: {text}" for place, text in problems))
        self.problems = problems


class ConfigurationError(OoMlError, code="configuration"):
    """The service can't start with these settings."""


class MigrationRefusedError(OoMlError, code="migration_refused"):
    """This migration is not possible."""


class EmbeddedPostgresError(OoMlError, code="embedded_postgres"):
    """The private PostgreSQL can't be started."""


class ImportSourceError(OoMlError, code="import_source"):
    """The files to import can't be read."""


class ExportFileError(OoMlError, code="export_file", status=500):
    """The export can't be written or read."""


class ReplayRefusedError(OoMlError, code="replay_refused"):
    """This export can't be replayed here."""


class EvaluationRefusedError(OoMlError, code="evaluation_refused"):
    """The log does not support an evaluation of this policy."""


class NothingToEvaluateError(EvaluationRefusedError):
    """The log holds no decision to evaluate."""


class LogContradictedError(OoMlError, code="log_contradicted"):
    """The ledger contradicts the stored decisions; run `oo-ml verify`."""


class LogFileError(OoMlError, code="log_file"):
    """This file is not a decision log that can be evaluated."""


class GrantRefusedError(OoMlError, code="grant_refused"):
    """This role can't be made an analyst."""


class KeyNotFoundError(OoMlError, code="key_not_found"):
    """There is no such API key."""


class KeyExistsError(OoMlError, code="key_exists"):
    """An API key in use has this name already."""


def describe_place(place: Sequence[str | int]) -> str:
    """Return a place in a JSON document in words, such as inputs[2].max."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
