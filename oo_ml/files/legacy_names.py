"""Owner of a file of the file-based service, found by its name and a list of ids, never guessed.

A file's NAME is the user's id with every non-alphanumeric character replaced by `_`, so several ids can share one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

_REPLACED = re.compile(r"[^a-zA-Z0-9]")


def index_ids(user_ids: Iterable[str], stems: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Return the ids that have each NAME.

    "Alphanumeric" can mean ASCII or Unicode, and one service had one rule. A file name with an é shows that it was
    Unicode's. If no file name has one, every é became `_`, or its user has no file.

    Args:
        user_ids: the true ids, each once.
        stems: every state file's name, without its extension.
    """
    unicode = not all(stem.isascii() for stem in stems)
    ids: dict[str, list[str]] = {}
    for user_id in user_ids:
        ids.setdefault(_replace(user_id, unicode=unicode), []).append(user_id)
    return ids


def find_owners(name: str, ids: Mapping[str, Sequence[str]] | None) -> Sequence[str]:
    """Return every id that can have `name`; without an index of ids, only an id that needed no replacement."""
    if ids is not None:
        return ids.get(name, ())
    return (name,) if name.isascii() and name.isalnum() else ()


def is_name(stem: str) -> bool:
    """Tell whether the file-based service can have given a file this name."""
    return bool(stem) and all(character.isalnum() or character == "_" for character in stem)


def _replace(user_id: str, *, unicode: bool) -> str:
    if unicode:
        return "".join(character if character.isalnum() else "_" for character in user_id)
    return _REPLACED.sub("_", user_id)
