"""Replies of the language model: their JSON schema, their parser, and the correction after an invalid reply.

A valid reply is a JSON array of tips, alone or inside one Markdown fence. Any text gives either tips that can be stored
unchanged, or a ReplyError that tells the model what is wrong.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from oo_ml.domain.identifiers import MAX_IDENTIFIER_BYTES, is_identifier, is_storable

MAX_TEXT_CHARACTERS = 4_000

_FENCE = "```"
_INFO_STRING = re.compile(r"[\w+-]*")


class ReplyError(ValueError):
    """The reply is not the requested JSON array. The model gets the message with the next request."""


@dataclass(frozen=True, slots=True)
class GeneratedTip:
    """A tip in a reply; the id is unique within the reply."""

    id: str
    content: str
    rationale: str | None


def parse_versions(configured: str) -> list[str]:
    """Return the prompt versions in a comma-separated list. A version that is listed twice has twice the weight."""
    return [version for entry in configured.split(",") if (version := entry.strip())]


def tips_schema(n: int) -> dict[str, object]:
    """Return the JSON schema of a reply of `n` tips, for gateways that can enforce a schema.

    The schema has no ids, because small models repeat ids or leave them empty; `parse_reply` adds missing ids. Texts
    have a maximum length, because small models may otherwise not end a text.
    """
    return {
        "type": "array",
        "minItems": n,
        "maxItems": n,
        "items": {
            "type": "object",
            "properties": {
                "content": {"type": "string", "minLength": 1, "maxLength": 300},
                "rationale": {"type": "string", "maxLength": 200},
            },
            "required": ["content", "rationale"],
            "additionalProperties": False,
        },
    }


def write_correction(error: ReplyError) -> str:
    """Return the message that asks the model for another reply after an invalid one."""
    return (
        f"That reply could not be used. {error} Send the whole reply again: one JSON array of objects with the strings "
        '"id", "content" and "rationale", starting with [ and ending with ], with nothing before or after it.'
    )


def parse_reply(text: str, n: int) -> tuple[GeneratedTip, ...]:
    """Return the first `n` tips of a reply; at least one, and fewer than `n` if the reply has fewer.

    Raises:
        ReplyError: the text is not a JSON array of {id?, content, rationale?}, or the array is empty.
    """
    entries = _load(_strip_fence(text.strip()))
    if not isinstance(entries, list):
        raise ReplyError("The reply is not a JSON array; put the objects into an array, even if there is only one.")
    if not entries:
        raise ReplyError("The array is empty.")
    tips = tuple(_tip(entry, index) for index, entry in enumerate(entries[:n]))
    _refuse_repeated_ids(tips)
    return tips


def _strip_fence(text: str) -> str:
    """Return the text between the first and the last fence, or all of it if it starts with [ or has no fence.

    Two fenced blocks leave a fence in between. That is not JSON, so the parser refuses it.
    """
    if text.startswith("[") or _FENCE not in text:
        return text
    start, end = text.index(_FENCE) + len(_FENCE), text.rindex(_FENCE)
    if end < start:
        raise ReplyError("The code fence is not closed.")
    return _INFO_STRING.sub("", text[start:end], count=1).strip()


def _load(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ReplyError("The reply is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise ReplyError(f"The reply is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except ReplyError:
        raise
    except ValueError:  # CPython does not convert integers of more than 4,300 digits
        raise ReplyError("The reply holds a number that is too long.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ReplyError(f"The reply is not JSON: {name} is not a JSON number.")


def _tip(entry: object, index: int) -> GeneratedTip:
    where = f"Entry {index} of the array"
    if not isinstance(entry, dict):
        raise ReplyError(f'{where} is not an object with "id", "content" and "rationale".')
    content = _text(entry.get("content"), f'"content" of entry {index}')
    if not content.strip():
        raise ReplyError(f'"content" of entry {index} is blank.')
    rationale = entry.get("rationale")
    return GeneratedTip(
        id=_identifier(entry.get("id"), index),
        content=content,
        rationale=None if rationale is None else _text(rationale, f'"rationale" of entry {index}'),
    )


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ReplyError(f"{where} is not a string.")
    if len(value) > MAX_TEXT_CHARACTERS:
        raise ReplyError(f"{where} is longer than {MAX_TEXT_CHARACTERS} characters.")
    if not is_storable(value):
        raise ReplyError(f"{where} holds characters that are not text.")
    return value


def _identifier(value: object, index: int) -> str:
    if value is None:
        return f"tip-{index}"
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not is_identifier(value):
        raise ReplyError(f'"id" of entry {index} is not a string of 1 to {MAX_IDENTIFIER_BYTES} bytes on one line.')
    return value


def _refuse_repeated_ids(tips: Sequence[GeneratedTip]) -> None:
    seen: set[str] = set()
    for tip in tips:
        if tip.id in seen:
            raise ReplyError(f'The id "{tip.id}" is used twice; give each tip an id of its own.')
        seen.add(tip.id)
