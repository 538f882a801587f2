"""Answers of the gateway with status 200: the texts that a model may answer in, why it ended, and the tokens."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from oo_ml.domain.identifiers import is_identifier
from oo_ml.errors import GatewayError

# A larger count is an error of the gateway. The sum over the attempts fits PostgreSQL's integer.
MAX_TOKENS: Final = 100_000_000

LENGTH: Final = "length"
CONTENT_FILTER: Final = "content_filter"
TOOL_CALLS: Final = "tool_calls"
REFUSAL: Final = "refusal"
ERROR: Final = "error"

# Some gateways pass on the words of their providers.
_REASONS: Final = {
    "max_tokens": LENGTH,
    "max_output_tokens": LENGTH,
    "safety": CONTENT_FILTER,
    "recitation": CONTENT_FILTER,
    "prohibited_content": CONTENT_FILTER,
    "function_call": TOOL_CALLS,
    "tool_use": TOOL_CALLS,
    "end_turn": "stop",
}


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of the gateway.

    Attributes:
        text: the message; empty if there is none.
        arguments: the arguments of each tool that the model called instead.
        finish_reason: why the model ended, in OpenAI's words; refusal if the message is one; None if it is not known.
        refusal: the words of a refusal.
        error: the text of an error that the answer holds in spite of its status.
        model: the model that answered, None if the answer does not name it.
        prompt_tokens, completion_tokens: 0 if they are not counted.
    """

    text: str
    arguments: tuple[str, ...]
    finish_reason: str | None
    refusal: str | None
    error: str | None
    model: str | None
    prompt_tokens: int
    completion_tokens: int

    @property
    def is_cut(self) -> bool:
        """Return whether the model would have written more."""
        return self.finish_reason in {LENGTH, CONTENT_FILTER}


def parse_completion(body: bytes) -> Completion:
    """Return the completion in the body of an answer.

    Raises:
        GatewayError: it is neither a chat completion nor an error.
    """
    answer = parse_json(body)
    if not isinstance(answer, dict):
        raise GatewayError("The language model gateway's answer is not a JSON object")
    choice, message = _read_choice(answer)
    reason = _finish_reason(choice, message)
    error = answer.get("error") or choice.get("error")
    if reason == ERROR:
        error = error or "the model's reply ended with an error"
    usage = answer.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    model = answer.get("model")
    return Completion(
        text=_join(message.get("content")),
        arguments=tuple(_arguments(message)),
        finish_reason=reason,
        refusal=_read_refusal(message),
        error=error_text(error) if error else None,
        model=model if isinstance(model, str) and is_identifier(model) else None,
        prompt_tokens=_count_tokens(counts.get("prompt_tokens")),
        completion_tokens=_count_tokens(counts.get("completion_tokens")),
    )


def parse_json(body: bytes) -> object:
    """Return the JSON in `body`, None if there is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def error_text(error: object) -> str:
    """Return the text of an error: its message if it has one."""
    match error:
        case {"message": str() as text} if text.strip():
            return text
        case str():
            return error
    return json.dumps(error)


def _read_choice(answer: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the first choice and its message; empty ones if the answer has an error instead."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(choice, dict):
        message = choice.get("message")
        if isinstance(message, dict) and isinstance(message.get("content"), str | list | None):
            return choice, message
        if choice.get("error") or choice.get("finish_reason") == ERROR:
            return choice, {}
    if answer.get("error"):
        return {}, {}
    if choices == []:
        raise GatewayError("The language model gateway's answer has no choices")
    raise GatewayError("The language model gateway's answer is not a chat completion")


def _finish_reason(choice: Mapping[str, Any], message: Mapping[str, Any]) -> str | None:
    if choice.get("error"):
        return ERROR
    if _read_refusal(message):
        return REFUSAL
    reason = choice.get("finish_reason")
    # In lower case first: some letters get longer by that.
    if not (isinstance(reason, str) and is_identifier(reason := reason.lower())):
        return None
    return _REASONS.get(reason, reason)


def _read_refusal(message: Mapping[str, Any]) -> str | None:
    # LiteLLM moves fields of one provider into an object of their own.
    others = message.get("provider_specific_fields")
    for fields in (message, others if isinstance(others, dict) else {}):
        refusal = fields.get("refusal")
        if isinstance(refusal, str) and refusal.strip():
            return refusal
    return None


def _join(content: object) -> str:
    """Return the text of a message's content: text, or a list of parts, of which those of reasoning are no answer."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for part in content if isinstance(content, list) else []:
        match part:
            case str():
                texts.append(part)
            case {"type": "text" | "output_text", "text": str() as text}:
                texts.append(text)
    return "".join(texts)


def _arguments(message: Mapping[str, Any]) -> Iterator[str]:
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    for function in [*functions, message.get("function_call")]:
        match function:
            case {"arguments": str() as text}:
                yield text
            case {"arguments": dict() | list() as value}:
                yield json.dumps(value)


def _count_tokens(count: object) -> int:
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MAX_TOKENS else 0
