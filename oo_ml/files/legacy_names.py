"""Whose state a file of the file-based service holds: told by its name and a list of ids, never guessed.

A file's NAME is the user's id with every non-alphanumeric character replaced by `_`, so several ids can share one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

_REPLACED = re.compile(r"[^a-zA-Z0-9]")


def index(user_ids: Iterable[str], stems: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Return the ids behind each NAME.

    "Alphanumeric" can mean ASCII's or Unicode's, and one service had one rule: a file name with an é in it shows that
    it was Unicode's. Where no file shows it, an é has become `_`, or its user has no file.

    Args:
        user_ids: the true ids, each once.
        stems: every state file's name, without its extension.
    """
    unicode = not all(stem.isascii() for stem in stems)
    ids: dict[str, list[str]] = {}
    for user_id in user_ids:
        ids.setdefault(_name(user_id, unicode=unicode), []).append(user_id)
    return ids


def owners(name: str, ids: Mapping[str, Sequence[str]] | None) -> Sequence[str]:
    """Return every id that can be behind `name`; without an index of ids, only one that needed no replacement."""
    if ids is not None:
        return ids.get(name, ())
    return (name,) if name.isascii() and name.isalnum() else ()


def is_name(stem: str) -> bool:
    """Tell whether the file-based service can have named a file so."""
    return bool(stem) and all(character.isalnum() or character == "_" for character in stem)


def _name(user_id: str, *, unicode: bool) -> str:
    if unicode:
        return "".join(character if character.isalnum() else "_" for character in user_id)
    return _REPLACED.sub("_", user_id)
