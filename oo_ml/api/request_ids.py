"""The id of a request: the client's or proxy's, else a new one. It goes into the answer, the logs and the audit log."""

import re
from collections.abc import Iterable
from secrets import token_hex
from typing import Final

HEADER: Final = b"x-request-id"
_TRACEPARENT: Final = b"traceparent"
# No spaces and no quotes, so that it can stand in a log line as it is.
_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,100}")
# W3C Trace Context: version, trace id, parent id, flags.
_TRACE: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return X-Request-ID, or the trace id of `traceparent`, or a new id; of a header that is repeated, the last."""
    found = dict(headers)
    if HEADER in found and _ID.fullmatch(name := found[HEADER].strip()):
        return name.decode("ascii")
    if _TRACEPARENT in found and (trace := _TRACE.match(found[_TRACEPARENT].strip())):
        return trace[1].decode("ascii")
    return new_request_id()


def new_request_id() -> str:
    """Return the id of a request that brought none."""
    return token_hex(16)
