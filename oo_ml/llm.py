"""Client of the chat-completions gateway: its requests, and the errors for its answers and failures.

One call takes no longer than OO_ML_LLM_TIMEOUT and reads no more than OO_ML_LLM_MAX_REPLY_BYTES, whatever the gateway
does. Never called inside a transaction.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import Final

import httpx

from oo_ml import tracing
from oo_ml.domain.identifiers import is_identifier, make_storable
from oo_ml.domain.prompts import GeneratedTip, ReplyError, parse_reply, tips_schema, write_correction
from oo_ml.errors import GatewayError, GatewayUnreachableError, InvalidReplyError, OoMlError
from oo_ml.settings import ResponseFormat, Settings

MODEL: Final = "tip-generator"
TEMPERATURE: Final = 0.7
MAX_ATTEMPTS: Final = 3
# The part of a bad reply that goes back to the model, and the part in the error message.
MAX_QUOTED_CHARACTERS: Final = 8_000
MAX_SHOWN_CHARACTERS: Final = 200
MAX_ERROR_CHARACTERS: Final = 500
# A larger count is an error of the gateway. The sum over the attempts fits PostgreSQL's integer.
MAX_TOKENS: Final = 100_000_000

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of the gateway. Its text may be empty; a token count that it does not give is 0."""

    text: str
    model: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Generation:
    """Result and cost of a request for tips: the tips, or the error to answer with.

    Tokens are summed over the attempts; `model` answered last, None if there was no answer.
    """

    tips: tuple[GeneratedTip, ...]
    error: OoMlError | None
    model: str | None
    prompt_tokens: int
    completion_tokens: int
    attempts: int
    latency_ms: int


def create_client(settings: Settings) -> httpx.AsyncClient:
    """Return the process's one client of the gateway; the caller closes it."""
    key = settings.litellm_master_key.get_secret_value()
    return httpx.AsyncClient(
        base_url=settings.litellm_url,
        # Uncompressed, so that the limit on an answer's size holds before it is unpacked, too.
        headers={"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"},
        timeout=httpx.Timeout(
            settings.llm_timeout, connect=settings.llm_connect_timeout, pool=settings.llm_connect_timeout
        ),
        limits=httpx.Limits(
            max_connections=settings.llm_max_connections, max_keepalive_connections=settings.llm_max_connections
        ),
        # LITELLM_URL is the address of the gateway. A proxy or a .netrc meant for other programs would send prompts and
        # the key elsewhere, or replace the key.
        trust_env=False,
        verify=_read_certificates(),
    )


@cache
def _read_certificates() -> ssl.SSLContext:
    # Reading them takes 40 ms. Tests start hundreds of services in one process.
    return httpx.create_ssl_context(trust_env=False)


async def generate_tips(
    client: httpx.AsyncClient, settings: Settings, messages: Sequence[Message], n: int
) -> Generation:
    """Ask for `n` tips. After a reply that is not the requested array, name the error and ask again, at most twice.

    Never raises for errors of the gateway or the model: failures have a cost too, and are stored like successes.
    """
    started = time.perf_counter()
    conversation = list(messages)
    completions: list[Completion] = []
    tips: tuple[GeneratedTip, ...] = ()
    error: OoMlError | None = None
    attempts = 0
    while not tips and attempts < MAX_ATTEMPTS:
        attempts += 1
        try:
            completion = await complete(client, settings, conversation, response_schema=tips_schema(n))
            completions.append(completion)
            tips, error = parse_reply(completion.text, n), None
        except ReplyError as refused:
            error = _build_reply_error(completion.text, refused)
            conversation += [_quote(completion.text), {"role": "user", "content": write_correction(refused)}]
        except OoMlError as failure:
            error = failure
            break
    return Generation(
        tips=tips,
        error=error,
        model=completions[-1].model if completions else None,
        prompt_tokens=sum(completion.prompt_tokens for completion in completions),
        completion_tokens=sum(completion.completion_tokens for completion in completions),
        attempts=attempts,
        latency_ms=round((time.perf_counter() - started) * 1000),
    )


async def complete(
    client: httpx.AsyncClient, settings: Settings, messages: Sequence[Message], *, response_schema: Mapping[str, object]
) -> Completion:
    """Ask the gateway once.

    Raises:
        GatewayError: The gateway answered with an error, with too much, or with something that is no chat completion.
        GatewayUnreachableError: The gateway cannot be reached, dropped the connection, or did not answer in time.
    """
    question: dict[str, object] = {"model": MODEL, "temperature": TEMPERATURE, "messages": messages}
    if settings.llm_response_format is ResponseFormat.JSON_SCHEMA:
        schema = {"name": "tips", "strict": True, "schema": response_schema}
        question["response_format"] = {"type": "json_schema", "json_schema": schema}
    limit = settings.llm_max_reply_bytes
    try:
        # httpx bounds each read; only this timeout bounds a gateway that sends a byte now and then.
        async with (
            asyncio.timeout(settings.llm_timeout),
            client.stream("POST", "chat/completions", json=question, headers=tracing.headers()) as response,
        ):
            body = await _read(response, limit)
    except (TimeoutError, httpx.TransportError) as failure:
        raise GatewayUnreachableError(_describe(failure, settings)) from failure
    except httpx.DecodingError as failure:
        raise GatewayError("The language model gateway's answer can't be unpacked") from failure
    if not response.is_success:
        raise GatewayError(_build_message(response.status_code, body[:limit], settings))
    if len(body) > limit:
        raise GatewayError(f"The language model gateway's answer is larger than {limit} bytes")
    return _parse_completion(body)


async def _read(response: httpx.Response, limit: int) -> bytes:
    """Return the body, or the beginning of a larger body, which exceeds `limit` too."""
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:  # type: ignore[type-var]  # a generator, declared an iterator
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                break
    return bytes(body)


def _describe(failure: Exception, settings: Settings) -> str:
    """Return a sentence without the address, because clients of the service read it."""
    match failure:
        case httpx.ConnectTimeout():
            return (
                f"The language model gateway can't be reached: no connection within {settings.llm_connect_timeout:g} s"
            )
        case httpx.ConnectError():
            return "The language model gateway can't be reached: nothing accepts connections at its address"
        case httpx.PoolTimeout():
            return f"All {settings.llm_max_connections} connections to the language model gateway are in use"
        case TimeoutError() | httpx.TimeoutException():
            return f"The language model gateway did not answer within {settings.llm_timeout:g} s"
        case _:
            return "The language model gateway dropped the connection"


def _build_message(status: int, body: bytes, settings: Settings) -> str:
    text = body.decode(errors="replace")
    match _parse_json(body):
        case {"error": {"message": str() as text}}:
            pass
    # Some gateways quote the key they were sent.
    text = text.replace(settings.litellm_master_key.get_secret_value(), "[key]")
    words = "".join(character if character.isprintable() else " " for character in text).split()
    shown = " ".join(words)[:MAX_ERROR_CHARACTERS]
    return f"The language model gateway answered {status}: {shown or 'nothing'}"


def _parse_json(body: bytes) -> object:
    """Return the JSON in `body`, None if there is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _parse_completion(body: bytes) -> Completion:
    answer = _parse_json(body)
    if not isinstance(answer, dict):
        raise GatewayError("The language model gateway's answer is not a JSON object")
    match answer.get("choices"):
        case [{"message": {"content": str() | None as text}}, *_]:
            pass
        case []:
            raise GatewayError("The language model gateway's answer has no choices")
        case _:
            raise GatewayError("The language model gateway's answer is not a chat completion")
    usage = answer.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    model = answer.get("model")
    return Completion(
        text=text or "",
        model=model if isinstance(model, str) and is_identifier(model) else MODEL,
        prompt_tokens=_count_tokens(counts.get("prompt_tokens")),
        completion_tokens=_count_tokens(counts.get("completion_tokens")),
    )


def _count_tokens(count: object) -> int:
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MAX_TOKENS else 0


def _quote(reply: str) -> Message:
    """Return a bad reply as a turn of the model; some providers refuse an empty one."""
    return {"role": "assistant", "content": make_storable(reply[:MAX_QUOTED_CHARACTERS]) or "(nothing)"}


def _build_reply_error(reply: str, refused: ReplyError) -> InvalidReplyError:
    return InvalidReplyError(
        f"The language model's reply was not the JSON array asked for, after {MAX_ATTEMPTS} attempts. {refused} "
        f"It began: {make_storable(reply)[:MAX_SHOWN_CHARACTERS]}"
    )
