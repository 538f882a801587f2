"""The service as its callers see it: JSON over HTTP. A 503 is waited out politely, and not for ever."""

import time
from typing import Any, TypeAlias

import httpx

from oo_ml.demo.processes import DemoError

Json: TypeAlias = dict[str, Any]

TRIES = 5
LONGEST_PAUSE_SECONDS = 5.0
MODEL_SECONDS = 60.0
# One call of /generate may ask the model three times.
_TIMEOUT = httpx.Timeout(3 * MODEL_SECONDS + 10.0, connect=5.0)


class CallFailedError(DemoError):
    """The service refused a call."""

    code = "call_failed"

    def __init__(self, call: str, status: int, answer: str) -> None:
        """Keep the status beside the message."""
        super().__init__(f"{call} was answered {status}: {answer[:500]}")
        self.status = status


def connect(base_url: str) -> httpx.Client:
    """Return a client for the service at `base_url`."""
    return httpx.Client(base_url=base_url, timeout=_TIMEOUT, trust_env=False)


def call(http: httpx.Client, method: str, path: str, body: Json | None = None) -> Json:
    """Send one request and return the answer's object.

    Raises:
        CallFailedError: the answer is no success, or still 503 after TRIES tries.
    """
    response = http.request(method, path, json=body)
    for _ in range(TRIES - 1):
        if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        time.sleep(_pause(response))
        response = http.request(method, path, json=body)
    if not response.is_success:
        raise CallFailedError(f"{method} {path}", response.status_code, response.text)
    answer: Json = response.json()
    return answer


def _pause(response: httpx.Response) -> float:
    try:
        asked = float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        asked = 1.0  # absent, or a date
    return min(max(asked, 0.0), LONGEST_PAUSE_SECONDS)
