"""What is asked of the language model, apart from the prompt's words: which version, and what counts as a reply.

A reply is a JSON array of tips, alone or inside one markdown fence. Whatever text arrives, the outcome is tips that can
be stored as they are, or a ReplyError that tells the model what to mend.
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
    """A reply is not the JSON array asked for. The message is written for the model, which is asked again."""


@dataclass(frozen=True, slots=True)
class GeneratedTip:
    """One tip of a reply; its id is unique in the reply."""

    id: str
    content: str
    rationale: str | None


def listed_versions(configured: str) -> list[str]:
    """Return the prompt versions of a comma list, none if it is empty; who stands there twice is as likely as two."""
    return [version for entry in configured.split(",") if (version := entry.strip())]


def tips_schema(n: int) -> dict[str, object]:
    """Return the JSON schema of a reply of `n` tips, for gateways that can enforce one.

    Without ids, which are made where they are missing, and with bounds: small models repeat an id, leave it empty, or
    never end a text that has no end.
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


def correction(error: ReplyError) -> str:
    """Return the message that asks for another reply after one that could not be used."""
    return (
        f"That reply could not be used. {error} Send the whole reply again: one JSON array of objects with the strings "
        '"id", "content" and "rationale", starting with [ and ending with ], with nothing before or after it.'
    )


def parse_reply(text: str, n: int) -> tuple[GeneratedTip, ...]:
    """Return the first `n` tips of a reply, or fewer if it holds fewer, but at least one.

    Raises:
        ReplyError: The text is not JSON, or not an array of {id?, content, rationale?}.
    """
    entries = _load(_unfenced(text.strip()))
    if not isinstance(entries, list):
        raise ReplyError("The reply is not a JSON array; put the objects into an array, even if there is only one.")
    if not entries:
        raise ReplyError("The array is empty.")
    tips = tuple(_tip(entry, index) for index, entry in enumerate(entries[:n]))
    _refuse_repeated_ids(tips)
    return tips


def _unfenced(text: str) -> str:
    """Return what stands between the first and the last fence; all of it when it starts as an array does.

    Two fenced blocks leave a fence in between, which is no JSON, so they are refused without a rule of their own.
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
    except ValueError:  # CPython refuses to convert integers of more than 4,300 digits
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
