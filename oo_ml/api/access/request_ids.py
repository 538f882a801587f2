"""The id of a request: the client's or proxy's, else a new one. It goes back in the answer, and into the audit log."""

import re
from secrets import token_hex
from typing import Final

from oo_ml.api.access.heads import Head

HEADER: Final = b"x-request-id"
# No spaces and no quotes, so that it can stand in a log line as it is.
_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,100}")
# W3C Trace Context: version, trace id, parent id, flags.
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def request_id(head: Head) -> str:
    """Return X-Request-ID, or the trace id of `traceparent`, or a new id."""
    if HEADER in head.headers and _ID.fullmatch(name := head.get(HEADER) or ""):
        return name
    if b"traceparent" in head.headers and (trace := _TRACE.match(head.get(b"traceparent") or "")):
        return trace[1]
    return token_hex(16)
