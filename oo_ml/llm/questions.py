"""Questions to the model: the parameters of a request, its body, and the correction after a bad reply."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from oo_ml.domain.tips import KEY, tips_schema
from oo_ml.setting_choices import ResponseFormat

_ARRAY: Final = "one JSON array"
_OBJECT: Final = f'one JSON object with the key "{KEY}" whose value is an array'


Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelParameters:
    """The model and the parameters of a request for tips.

    Attributes:
        model: the model, as the gateway names it.
        max_tokens: tokens of a reply, at most; None: as many as the gateway allows.
        response_format: the request to the gateway about the shape of a reply.
        stop: texts that end a reply.
    """

    model: str
    temperature: float
    max_tokens: int | None
    response_format: ResponseFormat
    stop: tuple[str, ...]


def start_conversation(messages: Sequence[Message], response_format: ResponseFormat) -> list[Message]:
    """Return the conversation's first messages. For an object they say so: prompts ask for an array."""
    if response_format is not ResponseFormat.JSON_OBJECT:
        return list(messages)
    *others, last = messages
    return [
        *others,
        {**last, "content": f'{last["content"]}\n\nPut the array into a JSON object, under the key "{KEY}".'},
    ]


def ask(parameters: ModelParameters, messages: Sequence[Message], n: int) -> dict[str, object]:
    """Return the body of a request."""
    question: dict[str, object] = {
        "model": parameters.model,
        "temperature": parameters.temperature,
        "messages": messages,
    }
    if parameters.max_tokens is not None:
        question["max_tokens"] = parameters.max_tokens
    if parameters.stop:
        question["stop"] = list(parameters.stop)
    match parameters.response_format:
        case ResponseFormat.JSON_OBJECT:
            question["response_format"] = {"type": "json_object"}
        case ResponseFormat.JSON_SCHEMA | ResponseFormat.JSON_SCHEMA_BOUNDED as wanted:
            schema = tips_schema(n, bounded=wanted is ResponseFormat.JSON_SCHEMA_BOUNDED)
            described = {"name": KEY, "strict": True, "schema": schema}
            question["response_format"] = {"type": "json_schema", "json_schema": described}
    return question


def correct(reason: str, response_format: ResponseFormat) -> Message:
    """Return the message that asks the model for another reply after an invalid one."""
    shape, ends = (_ARRAY, "[]") if response_format is ResponseFormat.NONE else (_OBJECT, "{}")
    return {
        "role": "user",
        "content": f"That reply could not be used. {reason} Send the whole reply again: {shape} of objects with the"
        f' strings "id", "content" and "rationale", starting with {ends[0]} and ending with {ends[1]}, with nothing'
        " before or after it.",
    }
