"""Which text may name something, which text PostgreSQL can hold at all, and the time in a UUIDv7.

An identifier that passes here can be stored, indexed, sent as JSON and read back by the same name.
"""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

MAX_IDENTIFIER_BYTES = 200
# Unicode's categories Cc and Cs: control characters and surrogates.
_UNNAMEABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
# The first time that a UUIDv7 can hold.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_identifier(text: str) -> bool:
    """Tell whether `text` may be an id: 1 to 200 bytes of UTF-8, without control characters and lone surrogates."""
    if not 0 < len(text) <= MAX_IDENTIFIER_BYTES:
        return False
    if text.isascii():
        # Nearly all of them, and it is asked for each of a thousand candidates.
        return text.isprintable()
    return _UNNAMEABLE.search(text) is None and len(text.encode()) <= MAX_IDENTIFIER_BYTES


def is_user_id(text: str) -> bool:
    """Tell whether `text` may be a user's id: an identifier, but not one of the two that no URL can carry.

    Every client resolves "." and ".." as path segments, however they are escaped.
    """
    return is_identifier(text) and text not in {".", ".."}


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL can hold `text`: no NUL, no lone surrogate."""
    return _UNSTORABLE.search(text) is None


def storable(text: str) -> str:
    """Return `text` with a question mark for each lone surrogate, and without NULs."""
    return text.replace("\0", "").encode(errors="replace").decode()


def time_of(name: UUID) -> datetime:
    """Return the time in a UUIDv7, its first 48 bits, or the end of time if that is later."""
    try:
        return EPOCH + timedelta(milliseconds=name.int >> 80)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def first_id(moment: datetime) -> UUID:
    """Return the least UUID whose time, in milliseconds, is not before `moment`, which may be before 1970."""
    return UUID(int=max(0, -((EPOCH - moment) // timedelta(milliseconds=1))) << 80)
