"""API keys: create, list and revoke them, and find the key of a token."""

import asyncio
import hmac
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from oo_ml.domain.access import ADMIN_KEY, Caller, Scope, digest_of, new_key_id, new_token
from oo_ml.errors import KeyExistsError, KeyNotFoundError, OoMlError, UnavailableError
from oo_ml.execution.outcomes import only
from oo_ml.execution.pool import Pool
from oo_ml.execution.shared_reading import SharedReading
from oo_ml.services.each import each
from oo_ml.storage import api_keys
from oo_ml.storage.api_keys import ApiKey
from oo_ml.storage.postgres.sessions import Reading, Writing

logger = logging.getLogger(__name__)

_SECONDS_IN_HOUR: Final = 3600


@dataclass(frozen=True, slots=True)
class CreateKeyCommand:
    """Create a key: its name, its scopes, and the time from which it is refused, if any."""

    name: str
    scopes: Sequence[Scope]
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key, and its token, which is stored nowhere."""

    key: ApiKey
    token: str


@each
def revoke(connection: Writing, name: str, *, revoked_at: datetime) -> str | OoMlError:
    """Revoke the key in use with this id or name; return its id, or the error that there is none."""
    revoked = api_keys.revoke(connection, name, revoked_at)
    return revoked[0] if revoked else KeyNotFoundError(f"There is no key in use with the name {name}")


@each
def list_keys(connection: Reading, _: None) -> list[ApiKey]:
    """Return every key, revoked and expired ones included, the oldest first."""
    return api_keys.list_all(connection)


@each
def exists(connection: Reading, _: None) -> bool:
    """Return whether there is a key that is neither revoked nor expired."""
    now = datetime.now(UTC)
    return any(key.expires_at is None or key.expires_at > now for key in api_keys.list_in_use(connection))


@each
def create(connection: Writing, command: CreateKeyCommand) -> CreatedKey | OoMlError:
    """Create a key; refuse a name that a key in use has."""
    token = new_token()
    key = ApiKey(
        key_id=new_key_id(),
        name=command.name,
        token_sha256=digest_of(token),
        scopes=[scope.value for scope in command.scopes],
        created_at=command.created_at,
        expires_at=command.expires_at,
        revoked_at=None,
        last_used_at=None,
    )
    if not api_keys.insert(connection, key):
        return KeyExistsError(f"A key in use has the name {command.name} already; revoke it first")
    return CreatedKey(key, token)


@each
def _list_in_use(connection: Reading, _: None) -> list[ApiKey]:
    return api_keys.list_in_use(connection)


@dataclass(frozen=True, slots=True)
class _Use:
    key_id: str
    hour: datetime


@each
def _touch(connection: Writing, use: _Use) -> None:
    api_keys.touch(connection, use.key_id, use.hour)


@dataclass(frozen=True, slots=True)
class _Held:
    """A key in use.

    Attributes:
        caller: the caller that has it.
        token_sha256: SHA-256 of its token.
        expires: the time.time() from which it is refused.
        used_hour: the last hour in which it is known to have been used, in hours since 1970; -1 if none is known.
    """

    caller: Caller
    token_sha256: bytes
    expires: float
    used_hour: int

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """Take a key as it is stored."""
        # A later release may have scopes that this one does not know.
        caller = Caller(key.key_id, frozenset(scope for scope in Scope if scope in key.scopes))
        expires = math.inf if key.expires_at is None else key.expires_at.timestamp()
        used_hour = -1 if key.last_used_at is None else _hour(key.last_used_at.timestamp())
        return cls(caller, key.token_sha256, expires, used_hour)


def _hour(seconds: float) -> int:
    return int(seconds) // _SECONDS_IN_HOUR


class KeyRing:
    """The keys in use, read again after some seconds, and when a token is unknown."""

    def __init__(
        self, readers: Pool[Reading], writers: Pool[Writing], *, admin_token: str | None, max_age: float
    ) -> None:
        """Start without keys; the first call reads them.

        Args:
            readers: the threads that read the keys.
            writers: the threads that record their use.
            admin_token: a token with all scopes, which is not in the database.
            max_age: seconds for which keys that were read are good; a revocation works within them.
        """
        self._readers = readers
        self._writers = writers
        self._admin = None if admin_token is None else digest_of(admin_token)
        self._max_age = max_age
        self._keys = SharedReading(self._read)
        # The hour for which the use of each key has been recorded.
        self._touched: dict[str, int] = {}
        self._touches: set[asyncio.Task[None]] = set()

    def find_known(self, token: str) -> Caller | None:
        """Return the caller with this token, if that is known without reading the keys; else None."""
        digest = digest_of(token)
        if self._is_admin(digest):
            return ADMIN_KEY
        keys = self._keys.newer_than(time.monotonic() - self._max_age)
        return None if keys is None else self._match(keys, digest)

    async def find(self, token: str, *, or_last_read: bool = False) -> Caller | None:
        """Return the caller with this token, None if no key in use has it.

        Args:
            token: as the client sent it.
            or_last_read: accept a key that was in use when the keys were last read, if they can't be read now.

        Raises:
            UnavailableError: the keys can't be read now.
        """
        digest = digest_of(token)
        if self._is_admin(digest):
            return ADMIN_KEY
        asked_at = time.monotonic()
        try:
            keys = await self._keys.since(asked_at - self._max_age)
        except UnavailableError:
            if not or_last_read or self._keys.last is None or digest not in self._keys.last:
                raise
            keys = self._keys.last
        if digest not in keys:
            # It may have been created a moment ago.
            keys = await self._keys.since(asked_at)
        return self._match(keys, digest)

    async def find_by_id(self, key_id: str) -> Caller | None:
        """Return the caller with the key of this id, None if it is not in use.

        Raises:
            UnavailableError: the keys can't be read now.
        """
        if self._admin is not None and key_id == ADMIN_KEY.key_id:
            return ADMIN_KEY
        keys = await self._keys.since(time.monotonic() - self._max_age)
        held = next((held for held in keys.values() if held.caller.key_id == key_id), None)
        return None if held is None else self._admit(held)

    def _is_admin(self, digest: bytes) -> bool:
        return self._admin is not None and hmac.compare_digest(digest, self._admin)

    def _match(self, keys: Mapping[bytes, _Held], digest: bytes) -> Caller | None:
        held = keys.get(digest)
        # The dictionary compares digests of tokens, which an attacker can't choose; this compares in constant time.
        if held is None or not hmac.compare_digest(digest, held.token_sha256):
            return None
        return self._admit(held)

    def _admit(self, held: _Held) -> Caller | None:
        now = time.time()
        if held.expires <= now:
            return None
        hour = _hour(now)
        if self._touched.get(held.caller.key_id) != hour:
            self._touched[held.caller.key_id] = hour
            if held.used_hour < hour:
                self._record_use(held.caller.key_id, hour)
        return held.caller

    async def _read(self) -> Mapping[bytes, _Held]:
        [keys] = await self._readers.run(_list_in_use, [None])
        return {key.token_sha256: _Held.of(key) for key in keys}

    def _record_use(self, key_id: str, hour: int) -> None:
        use = _Use(key_id, datetime.fromtimestamp(hour * _SECONDS_IN_HOUR, UTC))
        touch = asyncio.create_task(self._touch(use))
        self._touches.add(touch)
        touch.add_done_callback(self._touches.discard)

    async def _touch(self, use: _Use) -> None:
        try:
            only(await self._writers.run(_touch, [use]))
        except OoMlError as error:
            # The next hour has its own try: with a database that accepts no writes, each call would try.
            logger.warning("the use of key %s was not recorded: %s", use.key_id, error.explanation)
