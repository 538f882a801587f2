"""Tips in a model's reply: their check, their ids, and the JSON schema of a reply.

Any JSON gives either tips that can be stored unchanged, or a ReplyError that tells the model what is wrong.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, Final

from oo_ml.domain.identifiers import MAX_IDENTIFIER_BYTES, is_identifier, is_storable

MAX_TEXT_CHARACTERS: Final = 4_000
# The fields of a tip.
FIELDS: Final = frozenset({"id", "content", "rationale"})
# The key of the array in a reply that has to be an object.
KEY: Final = "tips"


class ReplyError(ValueError):
    """The reply is not the requested JSON array. The model gets the message with the next request."""


@dataclass(frozen=True, slots=True)
class GeneratedTip:
    """A tip in a reply; the id is unique within the reply."""

    id: str
    content: str
    rationale: str | None


def tips_schema(n: int, *, bounded: bool) -> dict[str, object]:
    """Return the JSON schema of a reply of `n` tips, for gateways that can enforce a schema.

    Its root is an object, because many providers take no other. It has no ids, because small models repeat ids or
    leave them empty; `read_tips` adds missing ids.

    Args:
        n: number of tips.
        bounded: limit the number of tips and the length of texts. Small models may otherwise not end a text, but some
            providers refuse such a schema.
    """
    texts: dict[str, dict[str, object]] = {"content": {"type": "string"}, "rationale": {"type": "string"}}
    array: dict[str, object] = {"type": "array"}
    if bounded:
        texts["content"] |= {"minLength": 1, "maxLength": 300}
        texts["rationale"] |= {"maxLength": 200}
        array |= {"minItems": n, "maxItems": n}
    return _object({KEY: {**array, "items": _object(texts)}})


def read_tips(value: object, n: int) -> tuple[GeneratedTip, ...]:
    """Return the first `n` tips of a JSON value; at least one, and fewer than `n` if it has fewer.

    The value is the array, or an object around it.

    Raises:
        ReplyError: it is not an array of {id?, content, rationale?}, or the array is empty.
    """
    entries = _unwrap(value)
    if not isinstance(entries, list):
        raise ReplyError("The reply is not a JSON array; put the objects into an array, even if there is only one.")
    if not entries:
        raise ReplyError("The array is empty.")
    used = entries[:n]
    ids = [_identifier(entry, index) for index, entry in enumerate(used)]
    _refuse_repeated_ids(ids)
    return tuple(
        GeneratedTip(identifier, *_texts(entry, index))
        for index, (entry, identifier) in enumerate(zip(used, _fill(ids), strict=True))
    )


def has_known_fields_only(value: object) -> bool:
    """Return whether no entry of an array has a field that tips don't have; such a field is a sign of a bad repair."""
    entries = _unwrap(value)
    return isinstance(entries, list) and all(isinstance(entry, dict) and entry.keys() <= FIELDS for entry in entries)


def _object(properties: Mapping[str, object]) -> dict[str, object]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _unwrap(value: object) -> object:
    """Return the array of objects inside an object that has exactly one, at any depth; else `value` itself."""
    inner = value
    while isinstance(inner, dict):
        arrays = [one for one in inner.values() if _is_array_of_objects(one)]
        objects = [one for one in inner.values() if isinstance(one, dict)]
        found = arrays or objects
        if len(found) != 1:
            return value
        inner = found[0]
    return inner if _is_array_of_objects(inner) else value


def _is_array_of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _texts(entry: Mapping[str, Any], index: int) -> tuple[str, str | None]:
    """Return content and rationale of an entry."""
    content = _text(entry.get("content"), f'"content" of entry {index}')
    if not content.strip():
        raise ReplyError(f'"content" of entry {index} is blank.')
    rationale = entry.get("rationale")
    return content, None if rationale is None else _text(rationale, f'"rationale" of entry {index}')


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ReplyError(f"{where} is not a string.")
    if len(value) > MAX_TEXT_CHARACTERS:
        raise ReplyError(f"{where} is longer than {MAX_TEXT_CHARACTERS} characters.")
    if not is_storable(value):
        raise ReplyError(f"{where} holds characters that are not text.")
    return value


def _identifier(entry: object, index: int) -> str | None:
    """Return the id of an entry, None if it has none."""
    if not isinstance(entry, dict):
        raise ReplyError(f'Entry {index} of the array is not an object with "id", "content" and "rationale".')
    value = entry.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or (isinstance(value, str) and is_identifier(value)):
        return value
    raise ReplyError(f'"id" of entry {index} is not a string of 1 to {MAX_IDENTIFIER_BYTES} bytes on one line.')


def _refuse_repeated_ids(ids: Collection[str | None]) -> None:
    seen: set[str] = set()
    for one in ids:
        if one is not None and one in seen:
            raise ReplyError(f'The id "{one}" is used twice; give each tip an id of its own.')
        if one is not None:
            seen.add(one)


def _fill(ids: Sequence[str | None]) -> list[str]:
    """Return ids in which a missing one is tip-INDEX, or, if the reply uses that name, the next that is free."""
    taken = {one for one in ids if one is not None}
    filled: list[str] = []
    for index, given in enumerate(ids):
        made = (f"tip-{number}" for number in chain([index], count(len(ids))))
        one = given if given is not None else next(name for name in made if name not in taken)
        taken.add(one)
        filled.append(one)
    return filled
