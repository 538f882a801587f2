"""The id of a request: the client's or proxy's, else a new one. It goes into the answer, the logs and the audit log."""

import re
from collections.abc import Mapping
from typing import Final

import uuid_utils

HEADER: Final = b"x-request-id"
_TRACEPARENT: Final = b"traceparent"
# No spaces and no quotes, so that it can stand in a log line as it is.
_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,100}")
# W3C Trace Context: version, trace id, parent id, flags.
_TRACE: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def request_id(headers: Mapping[bytes, bytes]) -> str:
    """Return X-Request-ID, or the trace id of `traceparent`, or a new id."""
    if HEADER in headers and _ID.fullmatch(name := headers[HEADER].strip()):
        return name.decode("ascii")
    if _TRACEPARENT in headers and (trace := _TRACE.match(headers[_TRACEPARENT].strip())):
        return trace[1].decode("ascii")
    return new_request_id()


def new_request_id() -> str:
    """Return the id of a request that brought none."""
    # uuid-utils draws it in user space. A system call would give up the interpreter's lock, once for each request.
    return uuid_utils.uuid4().hex
