"""API keys: their scopes, and tokens of which only the SHA-256 is stored."""

import secrets
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final

# Secret scanners find a token by `ooml_[0-9a-f]{64}`.
TOKEN_PREFIX: Final = "ooml_"  # noqa: S105 - the part that is no secret


class Scope(StrEnum):
    """Part of the calls that a key may make; `admin` includes all others."""

    DECIDE = "decide"
    READ = "read"
    USERS = "users"
    REGISTRY = "registry"
    METRICS = "metrics"
    ADMIN = "admin"


# What each scope is for, in the words of the documentation.
PURPOSES: Final = {
    Scope.DECIDE: "decide, learn, correct rewards, generate tips",
    Scope.READ: "read stats, decisions and reports; open the dashboard",
    Scope.USERS: "export, erase and reset users",
    Scope.REGISTRY: "publish prompt versions",
    Scope.METRICS: "read metrics",
    Scope.ADMIN: "everything",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """The origin of a call.

    Attributes:
        key_id: the id of the API key; a name in parentheses if there was none: (open), (admin key), (command line).
        scopes: the scopes of the key.
    """

    key_id: str
    scopes: AbstractSet[Scope]

    def may(self, scope: Scope) -> bool:
        """Return whether the caller has `scope`."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


# A client that has shown no key.
STRANGER: Final = Caller("(none)", frozenset())
OPEN: Final = Caller("(open)", frozenset({Scope.ADMIN}))
ADMIN_KEY: Final = Caller("(admin key)", frozenset({Scope.ADMIN}))
COMMAND_LINE: Final = Caller("(command line)", frozenset({Scope.ADMIN}))


def new_token() -> str:
    """Return a new secret: the prefix and 256 random bits as hexadecimal digits."""
    return TOKEN_PREFIX + secrets.token_hex(32)


def new_key_id() -> str:
    """Return a new id of a key, which is no secret."""
    return secrets.token_hex(6)


def digest_of(token: str) -> bytes:
    """Return the SHA-256 of a token. It needs no salt, because tokens are random."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
