"""Which text may name something, and which text PostgreSQL can hold at all.

An identifier that passes here can be stored, indexed, sent as JSON and read back by the same name.
"""

import unicodedata

MAX_IDENTIFIER_BYTES = 200


def is_identifier(text: str) -> bool:
    """Tell whether `text` may be an id: 1 to 200 bytes of UTF-8, without control characters and lone surrogates."""
    return (
        0 < len(text) <= MAX_IDENTIFIER_BYTES  # cheap, and true of whatever fits in bytes
        and all(unicodedata.category(character) not in {"Cc", "Cs"} for character in text)
        and len(text.encode()) <= MAX_IDENTIFIER_BYTES
    )


def is_user_id(text: str) -> bool:
    """Tell whether `text` may be a user's id: an identifier, but not one of the two that no URL can carry.

    Every client resolves "." and ".." as path segments, however they are escaped.
    """
    return is_identifier(text) and text not in {".", ".."}


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL can hold `text`: no NUL, no lone surrogate."""
    return text == storable(text)


def storable(text: str) -> str:
    """Return `text` with a question mark for each lone surrogate, and without NULs."""
    return text.replace("\0", "").encode(errors="replace").decode()
