"""Errors for the failures of the gateway, in sentences that clients of the service may read."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil
from typing import Final

import httpx

from oo_ml.errors import GatewayError
from oo_ml.llm.completions import error_text, parse_json
from oo_ml.settings import Settings

MAX_ERROR_CHARACTERS: Final = 500
# LiteLLM passes on the headers of the provider with this prefix.
_RETRY_AFTER: Final = ("retry-after", "llm_provider-retry-after")
# A longer wait is a mistake of the gateway.
_MAX_RETRY_AFTER: Final = 86_400


def describe_lost(failure: Exception, settings: Settings) -> str:
    """Return a sentence about a call without an answer; it has no address."""
    match failure:
        case httpx.ConnectTimeout():
            return (
                f"The language model gateway can't be reached: no connection within {settings.llm_connect_timeout:g} s"
            )
        case httpx.ConnectError():
            return "The language model gateway can't be reached: nothing accepts connections at its address"
        case httpx.PoolTimeout():
            return f"All {settings.llm_max_connections} connections to the language model gateway are in use"
        case TimeoutError() | httpx.TimeoutException():
            return f"The language model gateway did not answer within {settings.llm_timeout:g} s"
        case _:
            return "The language model gateway dropped the connection"


def status_error(response: httpx.Response, body: bytes, settings: Settings) -> GatewayError:
    """Return the error for an answer with an error status; it has the gateway's Retry-After."""
    text = body.decode(errors="replace")
    match parse_json(body):
        case {"error": {"message": str()} as error}:
            text = error_text(error)
    message = f"The language model gateway answered {response.status_code}: {shorten(text, settings) or 'nothing'}"
    found = (_read_retry_after(response.headers.get(name, "")) for name in _RETRY_AFTER)
    return GatewayError(message, retry_after=next((seconds for seconds in found if seconds is not None), None))


def error_in_answer(text: str, settings: Settings) -> GatewayError:
    """Return the error for an answer with status 200 that holds an error."""
    return GatewayError(f"The language model gateway answered with an error: {shorten(text, settings) or 'nothing'}")


def shorten(text: str, settings: Settings) -> str:
    """Return text of the gateway on one line, short and without the key."""
    # Some gateways quote the key they were sent.
    text = text.replace(settings.litellm_master_key.get_secret_value(), "[key]")
    # Cut before the loop over characters, which would hold the event loop for a long text.
    text = text[: 20 * MAX_ERROR_CHARACTERS]
    words = "".join(character if character.isprintable() else " " for character in text).split()
    return " ".join(words)[:MAX_ERROR_CHARACTERS]


def _read_retry_after(value: str) -> int | None:
    """Return the seconds in a Retry-After, which is a number or a date; None if it is neither, or too far away."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(1, ceil(seconds)) if 0 <= seconds <= _MAX_RETRY_AFTER else None
