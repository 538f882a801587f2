"""The head of a request, as the checks of access read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from starlette.types import Scope

from oo_ml.errors import MalformedRequestError

# A proxy and this service could each obey another one of two.
_SINGLE: Final = (b"host", b"authorization", b"content-type", b"content-encoding", b"origin", b"sec-fetch-site")


@dataclass(slots=True)
class Head:
    """Method, path and headers of a request.

    The path is as it was sent, still percent-encoded, without the prefix of a proxy: routes see the same (ADR 3). Of a
    header that is repeated, this has the last value.
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """Return the head of a request.

        Raises:
            MalformedRequestError: a header on which access depends is repeated.
        """
        pairs = scope["headers"]
        headers = dict(pairs)
        if len(headers) != len(pairs):
            names = [name for name, _ in pairs]
            if any(names.count(name) > 1 for name in _SINGLE):
                raise MalformedRequestError
        path = scope["raw_path"].decode("latin-1")
        if prefix := scope.get("root_path"):
            path = path.removeprefix(prefix)
        return cls(scope["method"], path, headers)

    def get(self, name: bytes) -> str | None:
        """Return the value of a header, None if there is none."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1").strip()

    @property
    def has_body(self) -> bool:
        """True if a body follows."""
        return self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers
