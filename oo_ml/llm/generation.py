"""A request for tips: questions to the model until a reply has tips, and the cost of all of them."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httpx
import json_repair

from oo_ml.domain.identifiers import make_storable
from oo_ml.domain.replies import read_broken_reply, read_reply, strip_reasoning
from oo_ml.domain.tips import GeneratedTip, ReplyError
from oo_ml.errors import InvalidReplyError, OoMlError
from oo_ml.llm.client import complete
from oo_ml.llm.completions import CONTENT_FILTER, LENGTH, REFUSAL, TOOL_CALLS, Completion
from oo_ml.llm.failures import error_in_answer, shorten
from oo_ml.llm.questions import Message, ModelParameters, ask, correct, start_conversation
from oo_ml.settings import Settings

MAX_ATTEMPTS: Final = 3
# The part of a bad reply that goes back to the model, and the part in the error message.
MAX_QUOTED_CHARACTERS: Final = 8_000
MAX_SHOWN_CHARACTERS: Final = 200

# Ends of a reply that explain why it has no tips.
_ENDS: Final = {
    LENGTH: "The reply ended at its limit of tokens (finish_reason length).",
    CONTENT_FILTER: "A content filter ended the reply (finish_reason content_filter).",
    TOOL_CALLS: "The model called a tool instead of answering (finish_reason tool_calls).",
}


@dataclass(frozen=True, slots=True)
class Generation:
    """Result and cost of a request for tips: the tips, or the error to answer with.

    Tokens are summed over the attempts.

    Attributes:
        model: the model that answered last; None if there was no answer.
        finish_reason: why the last answer ended; None if there was no answer, or it does not say.
        repaired: the tips are from a reply that was not quite JSON.
    """

    tips: tuple[GeneratedTip, ...]
    error: OoMlError | None
    model: str | None
    prompt_tokens: int
    completion_tokens: int
    attempts: int
    latency_ms: int
    finish_reason: str | None
    repaired: bool


async def generate_tips(
    client: httpx.AsyncClient, settings: Settings, parameters: ModelParameters, messages: Sequence[Message], n: int
) -> Generation:
    """Ask for `n` tips. After a reply without tips, name the error and ask again, at most twice.

    Never raises for errors of the gateway or the model: failures have a cost too, and are stored like successes.
    """
    started = time.perf_counter()
    conversation = start_conversation(messages, parameters.response_format)
    completions: list[Completion] = []
    tips: tuple[GeneratedTip, ...] = ()
    repaired = False
    error: OoMlError | None = None
    attempts = 0
    while not tips and attempts < MAX_ATTEMPTS:
        attempts += 1
        try:
            completion = await complete(client, settings, ask(parameters, conversation, n))
            completions.append(completion)
            if completion.error is not None:
                raise error_in_answer(completion.error, settings)
            # In a thread: to search or repair a long reply may take a second.
            (tips, repaired), error = await asyncio.to_thread(_read, completion, n), None
        except ReplyError as refused:
            reason = _explain(completion, refused, settings)
            error = _build_error(completion, reason)
            quoted = await asyncio.to_thread(_quote, completion)
            conversation += [quoted, correct(reason, parameters.response_format)]
        except OoMlError as failure:
            error = failure
            break
    last = completions[-1] if completions else None
    return Generation(
        tips=tips,
        error=error,
        model=(last.model or parameters.model) if last else None,
        prompt_tokens=sum(completion.prompt_tokens for completion in completions),
        completion_tokens=sum(completion.completion_tokens for completion in completions),
        attempts=attempts,
        latency_ms=round((time.perf_counter() - started) * 1000),
        finish_reason=last.finish_reason if last else None,
        repaired=repaired,
    )


def _read(completion: Completion, n: int) -> tuple[tuple[GeneratedTip, ...], bool]:
    """Return the tips of a completion, and whether its JSON was repaired.

    Raises:
        ReplyError: it has none.
    """
    refused: ReplyError | None = None
    texts = [completion.text, *completion.arguments]
    for text in texts:
        try:
            return read_reply(text, n, is_cut=completion.is_cut), False
        except ReplyError as error:
            refused = refused or error
    # A reply that was cut lacks a part of its last tip.
    for text in [] if completion.is_cut else texts:
        if tips := read_broken_reply(text, n, _repair):
            return tips, True
    raise refused or ReplyError("The reply is empty.")


def _repair(text: str) -> object:
    return json_repair.loads(text, skip_json_loads=True)


def _explain(completion: Completion, refused: ReplyError, settings: Settings) -> str:
    """Return why a completion has no tips, in one or two sentences."""
    if completion.finish_reason == REFUSAL:
        words = shorten(completion.refusal or completion.text, settings)[:MAX_SHOWN_CHARACTERS].rstrip(".")
        return f"The model refused: {words or 'it gave no reason'}."
    ended = _ENDS.get(completion.finish_reason or "")
    return f"{ended} {refused}" if ended else str(refused)


def _quote(completion: Completion) -> Message:
    """Return a bad reply as a turn of the model, without its reasoning; some providers refuse a blank one."""
    texts = [strip_reasoning(completion.text), *completion.arguments, completion.text, completion.refusal or ""]
    quoted = (make_storable(text[:MAX_QUOTED_CHARACTERS]) for text in texts)
    return {"role": "assistant", "content": next((text for text in quoted if text.strip()), "(nothing)")}


def _build_error(completion: Completion, reason: str) -> InvalidReplyError:
    shown = make_storable(completion.text[: 4 * MAX_SHOWN_CHARACTERS])[:MAX_SHOWN_CHARACTERS]
    began = f"It began: {shown}" if shown.strip() else "It had no text."
    return InvalidReplyError(
        f"The language model's reply was not the JSON array asked for, after {MAX_ATTEMPTS} attempts. {reason} {began}"
    )
