"""Requests for tips: bad replies, corrections, tokens, and the parameters of the request."""

import dataclasses
import json
from typing import cast

import pytest

from oo_ml.domain.tips import tips_schema
from oo_ml.errors import GatewayError, InvalidReplyError
from oo_ml.llm.generation import MAX_QUOTED_CHARACTERS
from oo_ml.llm.questions import ModelParameters
from oo_ml.setting_choices import ResponseFormat
from tests.gateway import Behaviour, Gateway, answer, completion
from tests.llm.asking import GOOD, MESSAGES, PARAMETERS, PROSE, WALK, generate, make_gateway_settings


@pytest.mark.parametrize(
    "reply", [GOOD, f"```json\n{GOOD}\n```", f"Here you are:\n```\n{GOOD}\n```\nEnjoy.", f"Tips: {GOOD}"]
)
def test_good_replies(gateway: Gateway, reply: str) -> None:
    """A JSON array, alone or in a fence, becomes tips with a model and a count of tokens."""
    gateway.script(completion(reply))

    generation = generate(make_gateway_settings(gateway))

    assert (generation.tips, generation.error, generation.attempts) == ((WALK,), None, 1)
    assert (generation.model, generation.prompt_tokens, generation.completion_tokens) == ("test-model", 11, 7)
    assert generation.latency_ms >= 0


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (PROSE, "The reply is not JSON"),
        ("Here you are: [walk, run] Enjoy.", "The reply is not JSON"),
        ('[{"content": "Walk', "The reply is not JSON"),
        ('{"content": "Walk."}', "not a JSON array"),
        ('["Walk."]', "Entry 0 of the array is not an object"),
        ("[]", "empty"),
        ('[{"content": "\\ud800"}]', "not text"),
    ],
)
def test_correction(gateway: Gateway, bad: str, complaint: str) -> None:
    """A bad reply and its error are appended, the model is asked again, and tokens are summed."""
    gateway.script(completion(bad), completion(GOOD))

    generation = generate(make_gateway_settings(gateway))

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

    assert generate(make_gateway_settings(gateway)).attempts == 3

    assert [len(request.body["messages"]) for request in gateway.requests] == [2, 4, 6]  # type: ignore[arg-type]


def test_three_bad_replies(gateway: Gateway) -> None:
    """The error shows the first 200 characters, and the generation has the tokens of all three attempts."""
    reply = "Sorry, " + "no \ud800" * 5_000
    gateway.script(completion(reply))

    generation = generate(make_gateway_settings(gateway))

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

    generation = generate(make_gateway_settings(gateway))

    assert isinstance(generation.error, GatewayError)
    assert (generation.attempts, generation.prompt_tokens, generation.model) == (2, 11, "test-model")


@pytest.mark.parametrize(
    "usage", [None, "many", [], {"prompt_tokens": "1"}, {"prompt_tokens": -1}, {"prompt_tokens": 1e9}]
)
def test_usage_that_is_not_a_count(gateway: Gateway, usage: object) -> None:
    """Token counts that are missing or not counts are 0."""
    gateway.script(completion(GOOD, usage=usage))

    generation = generate(make_gateway_settings(gateway))

    assert (generation.tips, generation.prompt_tokens, generation.completion_tokens) == ((WALK,), 0, 0)


@pytest.mark.parametrize("model", [None, 7, "", "a\nb", "x" * 201])
def test_model_that_is_not_a_name(gateway: Gateway, model: object) -> None:
    """A model that is missing or cannot be stored becomes the model that was asked for."""
    gateway.script(completion(GOOD, model=model))

    assert generate(make_gateway_settings(gateway)).model == "tip-generator"


def message(finish_reason: str = "stop", **fields: object) -> Behaviour:
    """Answer with a message of these fields."""
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **fields}}
    return completion(None, choices=[choice])


def call(arguments: object) -> dict[str, object]:
    """Return a call of a tool with these arguments."""
    return {"id": "1", "type": "function", "function": {"name": "answer", "arguments": arguments}}


@pytest.mark.parametrize(
    "behaviour",
    [
        message(content=[{"type": "thinking", "thinking": "[{}]"}, {"type": "text", "text": GOOD}]),
        message(content=[{"type": "text", "text": GOOD[:20]}, {"type": "output_text", "text": GOOD[20:]}]),
        message(content=[GOOD]),
        message("tool_calls", content=None, tool_calls=[call(f'{{"values": {GOOD}}}')]),
        message("tool_calls", content="One moment.", tool_calls=[call("{}"), call({"tips": json.loads(GOOD)})]),
        message("function_call", function_call={"name": "answer", "arguments": GOOD}),
        message(content=GOOD, reasoning_content="Hm."),
        message("length", content=f"{GOOD}\nI chose this tip bec"),
        completion(GOOD, error=None),
        completion(GOOD, error={}),
    ],
    ids=["parts", "text in two parts", "a text part", "tool", "tools", "function", "reasoning", "cut", "null", "{}"],
)
def test_places_of_the_array(gateway: Gateway, behaviour: Behaviour) -> None:
    """The array is read in the parts of the content and in the arguments of tools, without another request."""
    gateway.script(behaviour)

    generation = generate(make_gateway_settings(gateway))

    assert (generation.tips, generation.error, generation.attempts) == ((WALK,), None, 1)
    assert generation.repaired is False


@pytest.mark.parametrize(
    "reply", ["[{'content': 'Rest.'},]", '{"tips": [{content: "Rest."}]}', 'Sure: [{"content": “Rest.”}] Bye']
)
def test_repaired_replies(gateway: Gateway, reply: str) -> None:
    """JSON with small mistakes is repaired, which the generation says."""
    gateway.script(completion(reply))

    generation = generate(make_gateway_settings(gateway))

    assert ([tip.content for tip in generation.tips], generation.attempts) == (["Rest."], 1)
    assert generation.repaired is True


@pytest.mark.parametrize("finish_reason", ["length", "MAX_TOKENS", "content_filter"])
def test_cut_reply_is_not_repaired(gateway: Gateway, finish_reason: str) -> None:
    """Of a reply that was cut nothing is made up: the model is asked again."""
    cut = message(finish_reason, content='[{"content": "Rest a little."}, {"content": "Call mum and tell her"}, ]')
    gateway.script(cut, completion(GOOD))

    generation = generate(make_gateway_settings(gateway))

    assert (generation.tips, generation.attempts, generation.repaired) == ((WALK,), 2, False)


@pytest.mark.parametrize(
    ("behaviour", "reason", "says"),
    [
        (message("length", content=None, reasoning_content="Hm."), "length", "limit of tokens (finish_reason length)"),
        (message("max_tokens", content="<think>So [{"), "length", "limit of tokens (finish_reason length)"),
        (message(content=None, refusal="I must not."), "refusal", "The model refused: I must not."),
        (message(content=None, provider_specific_fields={"refusal": "No."}), "refusal", "The model refused: No."),
        (message("refusal", content="No, thanks"), "refusal", "The model refused: No, thanks."),
        (message("content_filter", content=""), "content_filter", "A content filter ended the reply"),
        (message("SAFETY", content=None), "content_filter", "A content filter ended the reply"),
        (message("tool_calls", content=None, tool_calls=[call("{}")]), "tool_calls", "called a tool instead"),
        (message("tool_use", content=None, tool_calls=None), "tool_calls", "called a tool instead"),
        (message(content="Well."), "stop", "The reply is not JSON"),
        (message("a\nb", content="Well."), None, "The reply is not JSON"),
    ],
)
def test_reason_of_a_failure(gateway: Gateway, behaviour: Behaviour, reason: str | None, says: str) -> None:
    """The error, the correction and the generation say why the reply has no tips."""
    gateway.script(behaviour)

    generation = generate(make_gateway_settings(gateway))

    assert isinstance(generation.error, InvalidReplyError)
    assert says in generation.error.message
    assert generation.finish_reason == reason
    assert says in _sent(gateway)[-1]["content"]
    assert len(gateway.requests) == 3


@pytest.mark.parametrize(
    ("behaviour", "message", "tokens"),
    [
        (completion(None, error={"message": "over\nloaded", "code": 529}), "over loaded", 11),
        (completion('[{"content": "half"}]', error="upstream sk-test broke"), "upstream [key] broke", 11),
        (answer(200, '{"error": {"code": 42}}'), '{"code": 42}', 0),
        (answer(200, '{"error": {"message": "no money"}, "choices": null}'), "no money", 0),
        (completion("x", choices=[{"error": {"message": "no GPU"}}]), "no GPU", 11),
        (
            completion("x", choices=[{"finish_reason": "error", "message": {"content": "a"}}]),
            "ended with an error",
            11,
        ),
    ],
)
def test_error_in_an_answer(gateway: Gateway, behaviour: Behaviour, message: str, tokens: int) -> None:
    """An error with status 200 is an error of the gateway: it is not asked again, and its tokens count."""
    gateway.script(behaviour)

    generation = generate(make_gateway_settings(gateway))

    assert isinstance(generation.error, GatewayError)
    assert message in generation.error.message
    assert (generation.tips, generation.attempts, generation.prompt_tokens) == ((), 1, tokens)


@pytest.mark.parametrize(
    ("bad", "turn"),
    [
        (message(content=""), "(nothing)"),
        (message(content=" \n\t "), "(nothing)"),
        (message(content="\0"), "(nothing)"),
        (message(content=[]), "(nothing)"),
        (message(content="<think>Hm.</think>"), "<think>Hm.</think>"),
        (message(content="<think>Hm.</think> Walk!"), "Walk!"),
        (message(content=" ", tool_calls=[call('{"tip": 1}')]), '{"tip": 1}'),
        (message(content=None, refusal="I must not."), "I must not."),
    ],
)
def test_bad_reply_as_a_turn(gateway: Gateway, bad: Behaviour, turn: str) -> None:
    """The turn of the model is never blank, because some providers refuse that; its reasoning is left out."""
    gateway.script(bad, completion(GOOD))

    generate(make_gateway_settings(gateway))

    assert _sent(gateway)[-2] == {"role": "assistant", "content": turn}


def test_parameters(gateway: Gateway) -> None:
    """Model and parameters are sent as given."""
    gateway.script(completion(GOOD, model=None))
    parameters = ModelParameters("small", 0.0, 300, ResponseFormat.NONE, ("END", "\n\n"))

    assert generate(make_gateway_settings(gateway), parameters=parameters).model == "small"

    others = {"model": "small", "temperature": 0.0, "max_tokens": 300, "stop": ["END", "\n\n"]}
    assert gateway.requests[0].body == {**others, "messages": MESSAGES}


def test_json_object(gateway: Gateway) -> None:
    """With json_object the request and the correction ask for an object around the array."""
    gateway.script(completion('{"content": "Walk."}'), completion(f'{{"tips": {GOOD}}}'))
    parameters = dataclasses.replace(PARAMETERS, response_format=ResponseFormat.JSON_OBJECT)

    assert generate(make_gateway_settings(gateway), parameters=parameters).tips == (WALK,)

    assert gateway.requests[0].body["response_format"] == {"type": "json_object"}
    _, user, _, correction = _sent(gateway)
    assert user["content"].startswith("Tips, please.")
    assert '"tips"' in user["content"]
    assert '"tips"' in correction["content"]


@pytest.mark.parametrize("response_format", [ResponseFormat.JSON_SCHEMA, ResponseFormat.JSON_SCHEMA_BOUNDED])
def test_json_schema(gateway: Gateway, response_format: ResponseFormat) -> None:
    """With json_schema the request has the strict schema of an object, with bounds only if they are asked for."""
    gateway.script(completion(f'{{"tips": {GOOD}}}'))
    parameters = dataclasses.replace(PARAMETERS, response_format=response_format)

    assert generate(make_gateway_settings(gateway), n=2, parameters=parameters).tips == (WALK,)

    assert gateway.requests[0].body["messages"] == MESSAGES
    bounded = response_format is ResponseFormat.JSON_SCHEMA_BOUNDED
    assert gateway.requests[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "tips", "strict": True, "schema": tips_schema(2, bounded=bounded)},
    }


def _sent(gateway: Gateway) -> list[dict[str, str]]:
    """Return the messages of the last request."""
    return cast("list[dict[str, str]]", gateway.requests[-1].body["messages"])
