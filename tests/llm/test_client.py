"""The gateway's client against a real HTTP server that misbehaves on command."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from oo_ml.domain.tips import GeneratedTip
from oo_ml.errors import ConfigurationError, GatewayError, GatewayUnreachableError, OoMlError
from oo_ml.llm.client import complete, create_client
from oo_ml.llm.completions import Completion
from oo_ml.llm.generation import Generation, generate_tips
from oo_ml.settings import Settings
from tests.gateway import (
    Behaviour,
    Gateway,
    answer,
    bomb,
    completion,
    cut,
    drip,
    flood,
    hold,
    running_gateway,
    send_half_an_answer,
    tips,
)
from tests.llm.asking import GOOD, MESSAGES, PARAMETERS, WALK, generate, make_gateway_settings
from tests.waiting import PATIENCE


def _complete(settings: Settings) -> Completion:
    async def main() -> Completion:
        # Far above the limits tested here: a call without a limit fails the test instead of stopping the suite.
        async with asyncio.timeout(10), create_client(settings) as client:
            return await complete(client, settings, {})

    return asyncio.run(main())


def _failure(settings: Settings) -> OoMlError:
    with pytest.raises(OoMlError) as caught:
        _complete(settings)
    return caught.value


def test_url_with_a_path(gateway: Gateway) -> None:
    """LITELLM_URL may end in a path, with or without a slash."""
    gateway.script(completion(GOOD))
    for suffix in ("/v1", "/v1/"):
        settings = make_gateway_settings(gateway).model_copy(update={"litellm_url": gateway.url + suffix})
        assert generate(settings).tips == (WALK,)
    assert [request.path for request in gateway.requests] == ["/v1/chat/completions"] * 2


def test_connection_reuse(gateway: Gateway) -> None:
    """A client keeps its connection from call to call."""
    settings = make_gateway_settings(gateway)

    async def main() -> None:
        async with create_client(settings) as client:
            for _ in range(3):
                await generate_tips(client, settings, PARAMETERS, MESSAGES, 3)

    asyncio.run(main())

    assert (len(gateway.requests), gateway.connections) == (3, 1)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (completion("", choices=[]), "The language model gateway's answer has no choices"),
        (completion("", choices="x"), "The language model gateway's answer is not a chat completion"),
        (completion(7), "The language model gateway's answer is not a chat completion"),
        (completion("", choices=[{}]), "The language model gateway's answer is not a chat completion"),
        (answer(200, "<html>hello</html>", "text/html"), "The language model gateway's answer is not a JSON object"),
        (answer(200, "[" * 90_000), "The language model gateway's answer is not a JSON object"),
        (answer(200, b"\xff\xfe\x00"), "The language model gateway's answer is not a JSON object"),
        (answer(200, b""), "The language model gateway's answer is not a JSON object"),
        (flood(), "The language model gateway's answer is larger than 100000 bytes"),
        (bomb(50_000_000), "The language model gateway's answer is larger than 100000 bytes"),
        (answer(200, "{}", **{"content-encoding": "gzip"}), "The language model gateway's answer can't be unpacked"),
        (answer(500, "out of memory", "text/plain"), "The language model gateway answered 500: out of memory"),
        (answer(429, '{"error": {"message": "slow\\ndown"}}'), "The language model gateway answered 429: slow down"),
        (answer(401, '{"error": "who?"}'), 'The language model gateway answered 401: {"error": "who?"}'),
        (answer(401, "Bad key sk-test"), "The language model gateway answered 401: Bad key [key]"),
        (answer(502, b""), "The language model gateway answered 502: nothing"),
        (
            answer(503, b"\x1b\xff" * 90_000),
            "The language model gateway answered 503: " + "\N{REPLACEMENT CHARACTER} " * 250,
        ),
        (answer(307, "", location="/elsewhere"), "The language model gateway answered 307: nothing"),
    ],
)
def test_answers_that_are_no_completion(gateway: Gateway, behaviour: Behaviour, message: str) -> None:
    """The gateway is not asked again, and its text is passed on: short, on one line, without the key."""
    gateway.script(behaviour)

    failure = _failure(make_gateway_settings(gateway))

    assert isinstance(failure, GatewayError)
    assert failure.message == message
    assert len(gateway.requests) == 1


@pytest.mark.parametrize(
    ("behaviour", "timeout", "message"),
    [
        (cut(), 5, "The language model gateway dropped the connection"),
        (send_half_an_answer(), 5, "The language model gateway dropped the connection"),
        (cut(b"SSH-2.0-OpenSSH\r\n"), 5, "The language model gateway dropped the connection"),
        (hold(tips("Never")), 0.2, "The language model gateway did not answer within 0.2 s"),
        (drip(), 0.2, "The language model gateway did not answer within 0.2 s"),
    ],
)
def test_gateway_that_does_not_answer(gateway: Gateway, behaviour: Behaviour, timeout: float, message: str) -> None:
    """The error tells a dropped connection, silence, and an answer that never ends apart."""
    gateway.script(behaviour)

    failure = _failure(make_gateway_settings(gateway, timeout=timeout))

    assert isinstance(failure, GatewayUnreachableError)
    assert failure.message == message


def test_no_gateway() -> None:
    """If nothing listens, the error says so and contains no address."""
    with running_gateway() as gateway:
        settings = make_gateway_settings(gateway)

    generation = generate(settings)

    assert isinstance(generation.error, GatewayUnreachableError)
    assert generation.error.message.startswith("The language model gateway can't be reached")
    assert gateway.url not in generation.error.message
    assert (generation.attempts, generation.prompt_tokens, generation.model) == (1, 0, None)


def test_slow_gateway(gateway: Gateway) -> None:
    """An answer within the timeout counts; calls wait for a free connection, not for each other."""
    gateway.script(hold(completion(GOOD)))
    settings = make_gateway_settings(gateway, timeout=PATIENCE).model_copy(
        update={"llm_max_connections": 2, "llm_connect_timeout": 2}
    )

    async def main() -> list[Generation]:
        async with create_client(settings) as client:
            calls = [asyncio.create_task(generate_tips(client, settings, PARAMETERS, MESSAGES, 3)) for _ in range(3)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            gateway.let_go()
            return await asyncio.gather(*calls)

    first, second, third = asyncio.run(main())

    assert (first.tips, second.tips) == ((WALK,), (WALK,))
    assert third.error is not None
    assert third.error.message == "All 2 connections to the language model gateway are in use"


def test_cancelled_call(gateway: Gateway) -> None:
    """A call that is cancelled leaves the client usable."""
    gateway.script(hold(completion(GOOD)))
    settings = make_gateway_settings(gateway).model_copy(update={"llm_max_connections": 1, "llm_connect_timeout": 5})

    async def main() -> Generation:
        async with create_client(settings) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(generate_tips(client, settings, PARAMETERS, MESSAGES, 3), 0.1)
            gateway.let_go()
            return await generate_tips(client, settings, PARAMETERS, MESSAGES, 3)

    assert asyncio.run(main()).tips == (WALK,)


def test_proxies(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment never gets prompts."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    gateway.script(completion(GOOD))

    assert generate(make_gateway_settings(gateway)).tips == (WALK,)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("localhost:4000", "k"),
        ("ftp://host", "k"),
        ("http://", "k"),
        ("http://h:port", "k"),
        ("http://h", "ä"),
        ("http://h", ""),
    ],
)
def test_settings(url: str, key: str) -> None:
    """An address or a key that no call could use is refused at the start, and the key is not in the message."""
    with pytest.raises(ConfigurationError, match=r"^LITELLM_"):
        Settings(litellm_url=url, litellm_master_key=key)


def test_unicode(gateway: Gateway) -> None:
    """Text outside ASCII is unchanged on the way to the client."""
    gateway.script(completion(json.dumps([{"content": "Geh früh schlafen: 睡眠"}], ensure_ascii=False)))

    assert generate(make_gateway_settings(gateway)).tips == (GeneratedTip("tip-0", "Geh früh schlafen: 睡眠", None),)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("17", 17),
        ("0", 1),
        ("2.5", 3),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Thu, 99 Jan 2099 00:00:00", None),
    ],
)
@pytest.mark.parametrize("header", ["retry-after", "llm_provider-retry-after"])
def test_retry_after_of_the_gateway(gateway: Gateway, header: str, sent: str, kept: int | None) -> None:
    """The Retry-After of the gateway, or of its provider, a number of seconds, is kept."""
    gateway.script(answer(429, "slow down", "text/plain", **{header: sent}))

    failure = _failure(make_gateway_settings(gateway))

    assert isinstance(failure, GatewayError)
    assert failure.retry_after == kept


def test_date_to_retry_after(gateway: Gateway) -> None:
    """A Retry-After that is a date is kept in seconds from now."""
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    gateway.script(answer(429, "slow down", "text/plain", **{"retry-after": date}))

    failure = _failure(make_gateway_settings(gateway))

    assert isinstance(failure, GatewayError)
    assert failure.retry_after is not None
    assert 3000 < failure.retry_after <= 3600
