"""Settings that are one of a few words. Commands that only print help import no more than this."""

from enum import StrEnum


class ResponseFormat(StrEnum):
    """Request to the gateway about the shape of a reply."""

    NONE = "none"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    # With limits on the number of tips and on the length of texts.
    JSON_SCHEMA_BOUNDED = "json_schema_bounded"


class LogLevel(StrEnum):
    """Least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """Form of a line of the log."""

    TEXT = "text"
    JSON = "json"


class Auth(StrEnum):
    """Calls that need an API key."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"
