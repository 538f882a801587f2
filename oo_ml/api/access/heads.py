"""The head of a request, as the checks of access read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from starlette.types import Scope

from oo_ml.errors import MalformedRequestError

# A proxy and this service could each obey another one of two.
_SINGLE: Final = (b"host", b"authorization", b"content-type", b"content-encoding", b"origin", b"sec-fetch-site")


def path_of(scope: Scope) -> str:
    """Return the path as sent, still percent-encoded, without the prefix of a proxy: as routes see it (ADR 3)."""
    path: str = (scope.get("raw_path") or b"").decode("latin-1")
    prefix = scope.get("root_path")
    return path.removeprefix(prefix) if prefix else path


@dataclass(slots=True)
class Head:
    """Method, path and headers of a request; of a header that is repeated, the last value."""

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
        return cls(scope["method"], path_of(scope), headers)

    def get(self, name: bytes) -> str | None:
        """Return the value of a header, None if there is none."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1").strip()

    @property
    def has_body(self) -> bool:
        """True if a body follows."""
        return self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers
