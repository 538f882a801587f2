"""The head of a request, read once for all middleware."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from starlette.types import Scope

_HEAD: Final = "head"
_NONE: Final[frozenset[bytes]] = frozenset()


@dataclass(slots=True)
class Head:
    """The head of a request.

    Attributes:
        method: the method.
        path: the path as sent, still percent-encoded, without the prefix of a proxy: as routes see it (ADR 3).
        headers: the headers by name in lower case; of one that is repeated, the last value.
        repeated: the names of headers that are repeated.
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    repeated: frozenset[bytes]

    @classmethod
    def of(cls, scope: Scope) -> Self:
        """Read the head of a request."""
        pairs = scope["headers"]
        headers = dict(pairs)
        repeated = _NONE if len(headers) == len(pairs) else _repeated(name for name, _ in pairs)
        path: str = (scope.get("raw_path") or b"").decode("latin-1")
        prefix = scope.get("root_path")
        return cls(scope["method"], path.removeprefix(prefix) if prefix else path, headers, repeated)

    def get(self, name: bytes) -> str | None:
        """Return the value of a header, None if there is none."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1").strip()

    @property
    def has_body(self) -> bool:
        """True if a body follows."""
        return self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers


def attach(scope: Scope) -> Head:
    """Read the head of a request, and attach it to the request."""
    head = Head.of(scope)
    scope.setdefault("state", {})[_HEAD] = head
    return head


def head_of(scope: Scope) -> Head:
    """Return the head that is attached to a request."""
    head: Head = scope["state"][_HEAD]
    return head


def _repeated(names: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(name for name, count in Counter(names).items() if count > 1)
