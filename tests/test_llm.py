"""The gateway's client against a real HTTP server that misbehaves on command."""

import asyncio
import json

import pytest

from oo_ml.domain.prompts import GeneratedTip
from oo_ml.errors import ConfigurationError, GatewayError, GatewayUnreachableError, InvalidReplyError, OoMlError
from oo_ml.llm import MAX_QUOTED_CHARACTERS, Completion, Generation, complete, create_client, generate_tips
from oo_ml.settings import ResponseFormat, Settings
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

MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tips, please."}]
GOOD = '[{"id": "walk", "content": "Walk a little.", "rationale": "It is sunny."}]'
WALK = GeneratedTip("walk", "Walk a little.", "It is sunny.")
PROSE = "Of course! Here is a tip: walk."


def _settings(
    gateway: Gateway, *, timeout: float = 5, response_format: ResponseFormat = ResponseFormat.NONE
) -> Settings:
    return Settings(
        litellm_url=gateway.url,
        litellm_master_key="sk-test",
        llm_timeout=timeout,
        llm_max_reply_bytes=100_000,
        llm_response_format=response_format,
    )


def _generate(settings: Settings, n: int = 3) -> Generation:
    async def main() -> Generation:
        async with create_client(settings) as client:
            return await generate_tips(client, settings, MESSAGES, n)

    return asyncio.run(main())


def _complete(settings: Settings) -> Completion:
    async def main() -> Completion:
        # Far above the limits tested here: a call without a limit fails the test instead of stopping the suite.
        async with asyncio.timeout(10), create_client(settings) as client:
            return await complete(client, settings, MESSAGES, response_schema={})

    return asyncio.run(main())


def _failure(settings: Settings) -> OoMlError:
    with pytest.raises(OoMlError) as caught:
        _complete(settings)
    return caught.value


def test_request(gateway: Gateway) -> None:
    """Path, key, model, temperature and messages reach the gateway; the schema is sent only if set so."""
    gateway.script(completion(GOOD))

    _generate(_settings(gateway))

    [request] = gateway.requests
    assert (request.method, request.path) == ("POST", "/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-test"
    assert request.headers["accept-encoding"] == "identity"
    assert request.body == {"model": "tip-generator", "temperature": 0.7, "messages": MESSAGES}


def test_response_format(gateway: Gateway) -> None:
    """With OO_ML_LLM_RESPONSE_FORMAT=json_schema the request has the schema of an array of n tips."""
    gateway.script(completion(GOOD))

    _generate(_settings(gateway, response_format=ResponseFormat.JSON_SCHEMA), n=2)

    response_format = gateway.requests[0].body["response_format"]
    assert isinstance(response_format, dict)
    assert response_format["type"] == "json_schema"
    assert response_format["json_schema"]["schema"]["maxItems"] == 2


def test_url_with_a_path(gateway: Gateway) -> None:
    """LITELLM_URL may end in a path, with or without a slash."""
    gateway.script(completion(GOOD))
    for suffix in ("/v1", "/v1/"):
        settings = _settings(gateway).model_copy(update={"litellm_url": gateway.url + suffix})
        assert _generate(settings).tips == (WALK,)
    assert [request.path for request in gateway.requests] == ["/v1/chat/completions"] * 2


def test_connection_reuse(gateway: Gateway) -> None:
    """A client keeps its connection from call to call."""
    settings = _settings(gateway)

    async def main() -> None:
        async with create_client(settings) as client:
            for _ in range(3):
                await generate_tips(client, settings, MESSAGES, 3)

    asyncio.run(main())

    assert (len(gateway.requests), gateway.connections) == (3, 1)


@pytest.mark.parametrize("reply", [GOOD, f"```json\n{GOOD}\n```", f"Here you are:\n```\n{GOOD}\n```\nEnjoy."])
def test_good_replies(gateway: Gateway, reply: str) -> None:
    """A JSON array, alone or in a fence, becomes tips with a model and a count of tokens."""
    gateway.script(completion(reply))

    generation = _generate(_settings(gateway))

    assert (generation.tips, generation.error, generation.attempts) == ((WALK,), None, 1)
    assert (generation.model, generation.prompt_tokens, generation.completion_tokens) == ("test-model", 11, 7)
    assert generation.latency_ms >= 0


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (PROSE, "The reply is not JSON"),
        (f"Here you are: {GOOD} Enjoy.", "The reply is not JSON"),
        ('{"content": "Walk."}', "not a JSON array"),
        ('["Walk."]', "Entry 0 of the array is not an object"),
        ("[]", "empty"),
        ('[{"content": "\\ud800"}]', "not text"),
    ],
)
def test_correction(gateway: Gateway, bad: str, complaint: str) -> None:
    """A bad reply and its error are appended, the model is asked again, and tokens are summed."""
    gateway.script(completion(bad), completion(GOOD))

    generation = _generate(_settings(gateway))

    assert (generation.tips, generation.error, generation.attempts) == ((WALK,), None, 2)
    assert (generation.prompt_tokens, generation.completion_tokens) == (22, 14)
    sent = gateway.requests[1].body["messages"]
    assert isinstance(sent, list)
    assert sent[:3] == [*MESSAGES, {"role": "assistant", "content": bad}]
    assert sent[3]["role"] == "user"
    assert complaint in sent[3]["content"]
    assert len(sent) == 4


def test_two_corrections(gateway: Gateway) -> None:
    """The conversation grows by two messages with each attempt."""
    gateway.script(completion(None, choices=[{"message": {"content": None}}]), completion(PROSE), completion(GOOD))

    assert _generate(_settings(gateway)).attempts == 3

    assert [len(request.body["messages"]) for request in gateway.requests] == [2, 4, 6]  # type: ignore[arg-type]


def test_three_bad_replies(gateway: Gateway) -> None:
    """The error shows the first 200 characters, and the generation has the tokens of all three attempts."""
    reply = "Sorry, " + "no \ud800" * 5_000
    gateway.script(completion(reply))

    generation = _generate(_settings(gateway))

    assert isinstance(generation.error, InvalidReplyError)
    shown = reply[:200].replace("\ud800", "?")
    assert generation.error.message.endswith(f"It began: {shown}")
    assert (generation.tips, generation.attempts) == ((), 3)
    assert (generation.prompt_tokens, generation.completion_tokens) == (33, 21)
    quoted = gateway.requests[1].body["messages"][2]["content"]  # type: ignore[index]
    assert len(quoted) == MAX_QUOTED_CHARACTERS


def test_error_in_a_later_attempt(gateway: Gateway) -> None:
    """An error of the gateway in the second attempt keeps the tokens of the first."""
    gateway.script(completion(PROSE), answer(500, "out of memory", "text/plain"))

    generation = _generate(_settings(gateway))

    assert isinstance(generation.error, GatewayError)
    assert (generation.attempts, generation.prompt_tokens, generation.model) == (2, 11, "test-model")


@pytest.mark.parametrize(
    "usage", [None, "many", [], {"prompt_tokens": "1"}, {"prompt_tokens": -1}, {"prompt_tokens": 1e9}]
)
def test_usage_that_is_not_a_count(gateway: Gateway, usage: object) -> None:
    """Token counts that are missing or not counts are 0."""
    gateway.script(completion(GOOD, usage=usage))

    generation = _generate(_settings(gateway))

    assert (generation.tips, generation.prompt_tokens, generation.completion_tokens) == ((WALK,), 0, 0)


@pytest.mark.parametrize("model", [None, 7, "", "a\nb", "x" * 201])
def test_model_that_is_not_a_name(gateway: Gateway, model: object) -> None:
    """A model that is missing or cannot be stored becomes the model that was asked for."""
    gateway.script(completion(GOOD, model=model))

    assert _generate(_settings(gateway)).model == "tip-generator"


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

    failure = _failure(_settings(gateway))

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

    failure = _failure(_settings(gateway, timeout=timeout))

    assert isinstance(failure, GatewayUnreachableError)
    assert failure.message == message


def test_no_gateway() -> None:
    """If nothing listens, the error says so and contains no address."""
    with running_gateway() as gateway:
        settings = _settings(gateway)

    generation = _generate(settings)

    assert isinstance(generation.error, GatewayUnreachableError)
    assert generation.error.message.startswith("The language model gateway can't be reached")
    assert gateway.url not in generation.error.message
    assert (generation.attempts, generation.prompt_tokens, generation.model) == (1, 0, None)


def test_slow_gateway(gateway: Gateway) -> None:
    """An answer within the timeout counts; calls wait for a free connection, not for each other."""
    gateway.script(hold(completion(GOOD)))
    settings = _settings(gateway).model_copy(update={"llm_max_connections": 2, "llm_connect_timeout": 0.2})

    async def main() -> list[Generation]:
        async with create_client(settings) as client:
            calls = [asyncio.create_task(generate_tips(client, settings, MESSAGES, 3)) for _ in range(3)]
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
    settings = _settings(gateway).model_copy(update={"llm_max_connections": 1, "llm_connect_timeout": 0.5})

    async def main() -> Generation:
        async with create_client(settings) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(generate_tips(client, settings, MESSAGES, 3), 0.1)
            gateway.let_go()
            return await generate_tips(client, settings, MESSAGES, 3)

    assert asyncio.run(main()).tips == (WALK,)


def test_proxies(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment never gets prompts."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    gateway.script(completion(GOOD))

    assert _generate(_settings(gateway)).tips == (WALK,)


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

    assert _generate(_settings(gateway)).tips == (GeneratedTip("tip-0", "Geh früh schlafen: 睡眠", None),)
