"""/generate over HTTP, with a scripted gateway."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from tests import calls
from tests import gateway as behave
from tests.chance import draws
from tests.conftest import Serve
from tests.gates import scalar, wait_until_blocked
from tests.gateway import Gateway, Request
from tests.serving import Service
from tests.sessions import writing
from tests.waiting import until

TIPS = [{"id": "a", "content": "Stretch.", "rationale": "You sat long."}, {"content": "Drink water."}]
GOOD = json.dumps(TIPS)
BODY: dict[str, Any] = {
    "user_id": "ada",
    "context": {"tasks": [{"title": "Call the dentist", "priority": 4}], "hour_of_day": 9, "extra": {"mood": "tired"}},
    "n": 2,
}


@pytest.fixture
def service(serve: Serve, gateway: Gateway) -> Service:
    """The service with that gateway."""
    return serve(litellm_url=gateway.url, epsilon=0)


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}\n```",
        f"Here you are:\n\n```json\n{GOOD}\n```\nEnjoy!",
        f"Here you are: {GOOD} Enjoy!",
        f"<think>Two tasks.</think>{GOOD}",
    ],
    ids=["plain", "fenced", "fenced without a language", "a fence in prose", "prose", "reasoning"],
)
def test_generated_tips(service: Service, gateway: Gateway, db: Engine, reply: str) -> None:
    """Tips are answered with their ids, the model and the tokens, and each is stored as a row."""
    gateway.script(behave.completion(reply))
    answer = service.client.post("/generate", json=BODY)
    assert answer.status_code == 200
    generation_id = UUID(answer.json()["generation_id"])
    assert answer.json() == {
        "candidates": [
            {"id": "a", "content": "Stretch.", "source": "llm", "rationale": "You sat long."},
            {"id": "tip-1", "content": "Drink water.", "source": "llm"},
        ],
        "model": "test-model",
        "prompt_version": "v1",
        "prompt_probability": 1.0,
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "generation_id": str(generation_id),
    }
    with writing(db) as connection:
        generation = connection.execute(text("SELECT * FROM oo_ml.generations")).mappings().one()
        tips = connection.execute(text("SELECT tip_id, content, rationale, place FROM oo_ml.tips ORDER BY place")).all()
    assert generation["generation_id"] == generation_id
    assert (generation["outcome"], generation["attempts"], generation["requested"]) == ("ok", 1, 2)
    assert (generation["prompt_tokens"], generation["completion_tokens"]) == (11, 7)
    assert tips == [("a", "Stretch.", "You sat long.", 0), ("tip-1", "Drink water.", None, 1)]


def test_request_to_the_gateway(service: Service, gateway: Gateway) -> None:
    """The request has the contract's path, key, model and temperature, and the two rendered messages."""
    gateway.script(behave.completion(GOOD))
    service.client.post("/generate", json=BODY)
    [request] = gateway.requests
    assert (request.method, request.path) == ("POST", "/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-oo-dev"
    system, user = _messages(request)
    assert request.body.keys() == {"model", "temperature", "messages"}
    assert (request.body["model"], request.body["temperature"]) == ("tip-generator", 0.7)
    assert (system["role"], user["role"]) == ("system", "user")
    assert "exactly 2 objects" in system["content"]
    assert '"Call the dentist"' in user["content"]
    assert '"mood": "tired"' in user["content"]


@pytest.mark.parametrize(
    "first",
    ["Sure! Drink water.", '{"id": "a", "content": "x"}', '["a", "b"]', "[]", "", " ", None],
    ids=["prose", "an object", "a list of strings", "an empty list", "nothing", "space", "null"],
)
def test_correction_of_an_invalid_reply(service: Service, gateway: Gateway, db: Engine, first: str | None) -> None:
    """The next request adds the reply and the error to the messages; the tokens of all tries are summed."""
    gateway.script(behave.completion(first), behave.completion(GOOD))
    answer = service.client.post("/generate", json=BODY)
    assert answer.status_code == 200
    assert (answer.json()["prompt_tokens"], answer.json()["completion_tokens"]) == (22, 14)
    assert [len(_messages(request)) for request in gateway.requests] == [2, 4]
    *_, assistant, correction = _messages(gateway.requests[1])
    assert (assistant["role"], correction["role"]) == ("assistant", "user")
    assert assistant["content"] == (first.strip() if first else "") or "(nothing)"
    assert "JSON array" in correction["content"]
    assert scalar(db, "SELECT attempts FROM oo_ml.generations") == 2


def test_invalid_replies(service: Service, gateway: Gateway, db: Engine) -> None:
    """After three invalid replies the call is a 502; the failure is stored with its tokens, and no tip is."""
    gateway.script(behave.completion("I would rather talk. " * 50))
    answer = service.client.post("/generate", json=BODY)
    assert (answer.status_code, answer.json()["code"]) == (502, "invalid_reply")
    assert ("I would rather talk. " * 50)[:200] in answer.json()["detail"]
    assert ("I would rather talk. " * 50)[:201] not in answer.json()["detail"]
    assert len(gateway.requests) == 3
    assert (
        scalar(db, "SELECT (outcome, attempts, prompt_tokens)::text FROM oo_ml.generations") == "(invalid_reply,3,33)"
    )
    assert scalar(db, "SELECT error FROM oo_ml.generations") == answer.json()["detail"]
    assert scalar(db, "SELECT count(*) FROM oo_ml.tips") == 0


@pytest.mark.parametrize(
    ("behaviour", "status", "code", "says"),
    [
        (behave.answer(400, '{"error": {"message": "no such model"}}'), 502, "gateway_error", "no such model"),
        (behave.answer(500, "out of order", "text/plain"), 502, "gateway_error", "out of order"),
        (behave.answer(200, "<html>", "text/html"), 502, "gateway_error", "not a JSON object"),
        (behave.completion("x", choices=[]), 502, "gateway_error", "no choices"),
        (behave.flood(), 502, "gateway_error", "larger than"),
        (behave.drip(), 503, "gateway_unreachable", "did not answer within"),
        (behave.hold(behave.completion(GOOD)), 503, "gateway_unreachable", "did not answer within"),
        (behave.cut(), 503, "gateway_unreachable", "dropped the connection"),
    ],
    ids=["error in JSON", "error in text", "no JSON", "no choices", "huge", "dripping", "slow", "cut"],
)
def test_failures_of_the_gateway(
    serve: Serve, gateway: Gateway, db: Engine, behaviour: behave.Behaviour, status: int, code: str, says: str
) -> None:
    """An error of the gateway is a 502 with its text, no answer is a 503; each is stored, and not retried."""
    # On a busy machine an answer takes long too.
    timeout = 0.5 if says == "did not answer within" else 20
    service = serve(litellm_url=gateway.url, llm_timeout=timeout, llm_max_reply_bytes=10_000)
    gateway.script(behaviour)
    answer = service.client.post("/generate", json=BODY)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert says in answer.json()["detail"]
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert len(gateway.requests) == 1
    assert scalar(db, "SELECT (outcome, attempts)::text FROM oo_ml.generations") == f"({code},1)"


def test_unreachable_gateway(serve: Serve) -> None:
    """If no server listens at LITELLM_URL, the call is a 503."""
    answer = serve(litellm_url="http://127.0.0.1:1").client.post("/generate", json=BODY)
    assert (answer.status_code, answer.json()["code"]) == (503, "gateway_unreachable")


def test_reply_without_usage(service: Service, gateway: Gateway) -> None:
    """A reply that does not report tokens counts 0."""
    gateway.script(behave.completion(GOOD, usage=None))
    answer = service.client.post("/generate", json=BODY).json()
    assert (answer["prompt_tokens"], answer["completion_tokens"]) == (0, 0)


def test_response_format(serve: Serve, gateway: Gateway) -> None:
    """OO_ML_LLM_RESPONSE_FORMAT=json_schema sends the schema of an object with tips."""
    gateway.script(behave.completion(json.dumps({"tips": TIPS})))
    answer = serve(litellm_url=gateway.url, llm_response_format="json_schema").client.post("/generate", json=BODY)
    assert [tip["content"] for tip in answer.json()["candidates"]] == ["Stretch.", "Drink water."]
    response_format: Any = gateway.requests[0].body["response_format"]
    assert response_format["type"] == "json_schema"
    assert response_format["json_schema"]["schema"]["type"] == "object"


PARAMETERS = {
    "model": "big",
    "temperature": 0.0,
    "max_tokens": 500,
    "response_format": "json_object",
    "stop": ["END", "---"],
}
STORED = """
    SELECT requested_model, temperature, max_tokens, response_format, stop, finish_reason, repaired
    FROM oo_ml.generations ORDER BY position DESC LIMIT 1
"""


def read_stored(db: Engine) -> tuple[Any, ...]:
    """Return the parameters of the last generation, and how its reply ended and was read."""
    with writing(db) as connection:
        return tuple(connection.execute(text(STORED)).one())


def test_parameters_of_a_version(serve: Serve, gateway: Gateway, db: Engine) -> None:
    """A version's own model and parameters are sent and stored; where it has none, those of the settings are."""
    client = serve(litellm_url=gateway.url, llm_model="small", llm_temperature=1.5).client
    templates = {"system_template": "Be brief.", "user_template": "{{ n }} tips."}
    assert client.post("/prompts", json={"version": "v4", **templates, **PARAMETERS}).status_code == 201
    assert client.post("/prompts", json={"version": "v5", **templates, "temperature": 0.2}).status_code == 201
    gateway.script(behave.completion(GOOD, model=None))

    assert client.post("/generate", json={**BODY, "prompt_version": "v4"}).json()["model"] == "big"
    sent = gateway.requests[-1].body
    assert {name: sent[name] for name in PARAMETERS} == {**PARAMETERS, "response_format": {"type": "json_object"}}
    assert read_stored(db) == ("big", 0.0, 500, "json_object", ["END", "---"], "stop", False)

    assert client.post("/generate", json={**BODY, "prompt_version": "v5"}).json()["model"] == "small"
    assert gateway.requests[-1].body.keys() == {"model", "temperature", "messages"}
    assert read_stored(db) == ("small", 0.2, None, "none", None, "stop", False)

    client.post("/generate", json={**BODY, "prompt_version": "v1"})
    assert read_stored(db)[:2] == ("small", 1.5)


def test_repaired_reply(service: Service, gateway: Gateway, db: Engine) -> None:
    """A reply with a small mistake is read without another request, which the stored generation says."""
    gateway.script(behave.completion("[{'content': 'Rest.'}]"))
    assert service.client.post("/generate", json=BODY).json()["candidates"][0]["content"] == "Rest."
    assert read_stored(db)[-2:] == ("stop", True)


def test_finish_reason(service: Service, gateway: Gateway, db: Engine) -> None:
    """The reason why a reply has no tips is answered and stored."""
    cut = {"finish_reason": "length", "message": {"content": None, "reasoning_content": "Hm"}}
    gateway.script(behave.completion(None, choices=[cut]))
    answer = service.client.post("/generate", json=BODY)
    assert (answer.status_code, answer.json()["code"]) == (502, "invalid_reply")
    assert "finish_reason length" in answer.json()["detail"]
    assert read_stored(db)[-2:] == ("length", False)
    assert scalar(db, "SELECT error FROM oo_ml.generations") == answer.json()["detail"]


def test_error_in_an_answer(service: Service, gateway: Gateway, db: Engine) -> None:
    """An error with status 200 is a gateway_error at once; its tokens are stored."""
    gateway.script(behave.completion(None, error={"message": "quota exceeded"}))
    answer = service.client.post("/generate", json=BODY)
    assert (answer.status_code, answer.json()["code"]) == (502, "gateway_error")
    assert "quota exceeded" in answer.json()["detail"]
    assert (
        scalar(db, "SELECT (outcome, attempts, prompt_tokens)::text FROM oo_ml.generations") == "(gateway_error,1,11)"
    )


def test_retry_after_of_the_gateway(service: Service, gateway: Gateway) -> None:
    """A 429 of the gateway keeps its Retry-After; an error without one has none."""
    gateway.script(behave.answer(429, "slow down", "text/plain", **{"retry-after": "17"}), behave.answer(429, "no"))
    first, second = (service.client.post("/generate", json=BODY) for _ in range(2))
    assert (first.status_code, first.headers.get("Retry-After")) == (502, "17")
    assert (second.status_code, second.headers.get("Retry-After")) == (502, None)


def test_lost_session_while_the_model_writes(serve: Serve, gateway: Gateway, db: Engine) -> None:
    """If PostgreSQL ends every session while the model writes, the generation is stored all the same."""
    service = serve(litellm_url=gateway.url, database_workers=1)
    gateway.script(behave.tips("One", "Two"))
    for _ in range(2):
        service.client.post("/generate", json=BODY)
    gateway.script(behave.hold(behave.completion(GOOD)))
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(service.client.post, "/generate", json=BODY)
        until(lambda: len(gateway.requests) == 1)
        scalar(
            db,
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'oo-ml' AND pid <> pg_backend_pid()",
        )
        gateway.let_go()
        assert answer.result().status_code == 200
    assert scalar(db, "SELECT count(*) FROM oo_ml.generations") == 3
    assert scalar(db, "SELECT count(*) FROM oo_ml.tips") == 3 * 2


def test_lost_session_while_a_generation_is_stored(serve: Serve, gateway: Gateway, db: Engine) -> None:
    """If PostgreSQL ends the session that stores a generation, it is stored over another one, once."""
    service = serve(litellm_url=gateway.url)
    gateway.script(behave.tips("One", "Two"))
    with ThreadPoolExecutor(1) as client:
        with writing(db) as holder:
            holder.execute(text("LOCK TABLE oo_ml.generations IN SHARE MODE"))
            answer = client.submit(service.client.post, "/generate", json=BODY)
            wait_until_blocked(db, 1)
            scalar(
                db,
                "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
        assert answer.result().status_code == 200
    assert scalar(db, "SELECT count(*) FROM oo_ml.generations") == 1
    assert scalar(db, "SELECT count(*) FROM oo_ml.tips") == 2


@pytest.mark.parametrize("settings", [{}, {"prompt_sticky": True}, {"tip_prompt_version": "auto"}], ids=str)
def test_no_transaction_during_a_request_to_the_gateway(
    serve: Serve, gateway: Gateway, db: Engine, settings: dict[str, Any]
) -> None:
    """No transaction is open while the gateway answers, and other calls are served."""
    service = serve(litellm_url=gateway.url, epsilon=0, **settings)
    weigh(db, 1, 1, 1)
    gateway.script(behave.hold(behave.completion(GOOD)))
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(service.client.post, "/generate", json=BODY)
        until(lambda: len(gateway.requests) == 1)
        open_transactions = scalar(
            db,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
            " AND pid <> pg_backend_pid()",
        )
        assert service.client.post("/score", json=calls.score()).status_code == 200
        gateway.let_go()
        assert answer.result().status_code == 200
    assert open_transactions == 0


def test_named_version(service: Service, gateway: Gateway) -> None:
    """A prompt_version in the request is used and answered."""
    gateway.script(behave.completion(GOOD))
    for version in ("v1", "v2-mentor", "v3-few-shot"):
        answer = service.client.post("/generate", json={**BODY, "prompt_version": version})
        assert answer.json()["prompt_version"] == version
    systems = {_messages(request)[0]["content"] for request in gateway.requests}
    assert len(systems) == 3


def test_unknown_version(service: Service, gateway: Gateway) -> None:
    """An unknown prompt_version is a 422 with the contract's sentence, and the gateway is not asked."""
    answer = service.client.post("/generate", json={**BODY, "prompt_version": "v9"})
    assert (answer.status_code, answer.json()["detail"]) == (422, "Unknown prompt_version: v9")
    assert gateway.requests == []


@pytest.mark.parametrize(
    ("settings", "used"),
    [
        ({}, {"v1"}),
        ({"default_prompt_version": "v2-mentor"}, {"v2-mentor"}),
        ({"tip_prompt_version": "v3-few-shot", "default_prompt_version": "v2-mentor"}, {"v3-few-shot"}),
        ({"tip_prompt_version": "v1, v2-mentor"}, {"v1", "v2-mentor"}),
        ({"tip_prompt_version": "v2-mentor,nonsense"}, {"v2-mentor"}),
    ],
    ids=["nothing set", "a default", "one", "a list", "a list with a mistake"],
)
def test_version_by_settings(serve: Serve, gateway: Gateway, settings: dict[str, str], used: set[str]) -> None:
    """Each request draws a version from TIP_PROMPT_VERSION; names that are not in the registry are ignored."""
    gateway.script(behave.completion(GOOD))
    client = serve(litellm_url=gateway.url, **settings).client
    seen: set[str] = set()
    for _ in draws(used, seen, rarest=1 / len(used)):
        seen.add(client.post("/generate", json=BODY).json()["prompt_version"])
    assert seen == used


def weigh(db: Engine, *weights: float) -> None:
    """Give v1, v2-mentor and v3-few-shot these weights."""
    with writing(db) as connection:
        for version, weight in zip(("v1", "v2-mentor", "v3-few-shot"), weights, strict=True):
            connection.execute(
                text("UPDATE oo_ml.prompt_versions SET weight = :weight WHERE version = :version"),
                {"weight": weight, "version": version},
            )


@pytest.mark.parametrize(
    ("settings", "weights", "named", "shares"),
    [
        ({}, (0, 0, 0), None, {"v1": 1.0}),
        ({}, (0, 1, 3), None, {"v2-mentor": 0.25, "v3-few-shot": 0.75}),
        ({"prompt_sticky": True}, (0, 1, 3), None, {"v2-mentor": 0.25, "v3-few-shot": 0.75}),
        ({"tip_prompt_version": "v1,v2-mentor"}, (0, 1, 3), None, {"v1": 0.5, "v2-mentor": 0.5}),
        ({"tip_prompt_version": "v1,v2-mentor"}, (0, 1, 3), "v3-few-shot", {"v3-few-shot": 1.0}),
    ],
    ids=["no weights", "weights", "sticky", "a list", "named"],
)
def test_prompt_probability(
    serve: Serve,
    gateway: Gateway,
    db: Engine,
    settings: dict[str, Any],
    weights: tuple[float, ...],
    named: str | None,
    shares: dict[str, float],
) -> None:
    """Answer, generation, tips, decision and receipt have the probability with which the version was drawn."""
    weigh(db, *weights)
    gateway.script(behave.completion(GOOD))
    service = serve(litellm_url=gateway.url, **settings)
    body = BODY if named is None else {**BODY, "prompt_version": named}
    wanted = set() if settings.get("prompt_sticky") else shares.keys()
    seen: set[str] = set()
    for _ in draws(wanted, seen, rarest=min(shares.values())):
        answer = service.client.post("/generate", json=body).json()
        expected = (answer["prompt_version"], shares[answer["prompt_version"]], answer["generation_id"])
        assert (answer["prompt_version"], answer["prompt_probability"], answer["generation_id"]) == expected
        decision = _score(service, {"id": "a"})
        receipt = service.client.get(f"/users/ada/decisions/{decision}").json()
        assert (receipt["prompt_version"], receipt["prompt_probability"], receipt["generation_id"]) == expected
        with writing(db) as connection:
            stored = connection.execute(
                text("""
                    SELECT prompt_version, prompt_probability, generation_id::text FROM oo_ml.generations
                    UNION ALL SELECT prompt_version, prompt_probability, generation_id::text FROM oo_ml.tips
                    UNION ALL SELECT prompt_version, prompt_probability, generation_id::text FROM oo_ml.feature_history
                """)
            ).all()
        assert [tuple(row) for row in stored].count(expected) == 1 + len(TIPS) + 1
        seen.add(answer["prompt_version"])
    assert seen == wanted or (settings.get("prompt_sticky") and len(seen) == 1)


def test_version_by_rewards(serve: Serve, gateway: Gateway, db: Engine) -> None:
    """With TIP_PROMPT_VERSION=auto the next generation uses the rewards; disliked versions keep a minimum."""
    gateway.script(behave.completion(GOOD))
    service = serve(litellm_url=gateway.url, tip_prompt_version="auto")
    for version, reward in (("v1", -1), ("v2-mentor", 1), ("v3-few-shot", -1)):
        for _ in range(20):
            generated = service.client.post("/generate", json={**BODY, "prompt_version": version}).json()
            decision = _score(service, {"id": generated["candidates"][0]["id"]})
            told = {"user_id": "ada", "tip_id": "a", "reward": reward, "decision_id": decision}
            assert service.client.post("/reward", json=told).json()["applied"] is True
    answers = [service.client.post("/generate", json=BODY).json() for _ in range(10)]
    shares = {"v1": 0.05, "v2-mentor": 0.9, "v3-few-shot": 0.05}
    for answer in answers:
        assert answer["prompt_probability"] == pytest.approx(shares[answer["prompt_version"]], abs=0.005)
    assert scalar(db, "SELECT count(*) FROM oo_ml.generations WHERE prompt_probability < 1") == 10


def test_prompt_probability_of_a_failure(serve: Serve, gateway: Gateway, db: Engine) -> None:
    """A failed generation has its prompt_probability too, so that failure rates can be compared."""
    weigh(db, 1, 1, 2)
    gateway.script(behave.completion("No."))
    assert serve(litellm_url=gateway.url).client.post("/generate", json=BODY).status_code == 502
    found = scalar(db, "SELECT prompt_probability FROM oo_ml.generations")
    assert found == scalar(
        db, "SELECT weight / 4 FROM oo_ml.prompt_versions JOIN oo_ml.generations ON version = prompt_version"
    )


def test_retired_version(serve: Serve, gateway: Gateway, db: Engine) -> None:
    """A retired version is a 422 if it is named, and ignored in TIP_PROMPT_VERSION."""
    with writing(db) as connection:
        connection.execute(
            text("UPDATE oo_ml.prompt_versions SET status = 'retired', retired_at = now() WHERE version = 'v1'")
        )
    gateway.script(behave.completion(GOOD))
    client = serve(litellm_url=gateway.url, tip_prompt_version="v1,v2-mentor").client
    refused = client.post("/generate", json={**BODY, "prompt_version": "v1"})
    assert (refused.status_code, refused.json()["detail"]) == (422, "Retired prompt_version: v1")
    assert {client.post("/generate", json=BODY).json()["prompt_version"] for _ in range(8)} == {"v2-mentor"}


def test_prompt_version_of_a_decision(service: Service, gateway: Gateway, db: Engine) -> None:
    """A decision has the version of the latest generation of its tip, or the version that the candidate names.

    It has the probability of that version too, unless an older release, which stored none, generated the tip.
    """
    gateway.script(behave.completion(GOOD))
    generations = [
        service.client.post("/generate", json={**BODY, "prompt_version": version}).json()["generation_id"]
        for version in ("v1", "v2-mentor")
    ]
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.tips SET prompt_probability = 0.25 WHERE prompt_version = 'v1'"))
    _score(service, {"id": "a"})
    assert _row(db) == ("v2-mentor", 1.0, generations[1])
    _score(service, {"id": "a", "prompt_version": "v2-mentor"})
    assert _row(db) == ("v2-mentor", 1.0, generations[1])
    _score(service, {"id": "a", "prompt_version": "v1"})
    assert _row(db) == ("v1", 0.25, generations[0])
    _score(service, {"id": "a", "prompt_version": "elsewhere"})
    assert _row(db) == ("elsewhere", None, None)
    _score(service, {"id": "not generated"})
    assert _row(db) == (None, None, None)
    _score(service, {"id": "a"}, user_id="ben")
    assert _row(db) == (None, None, None)
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.tips SET prompt_probability = NULL"))
    _score(service, {"id": "a"})
    assert _row(db) == ("v2-mentor", None, generations[1])


def _messages(request: Request) -> list[dict[str, str]]:
    return cast("list[dict[str, str]]", request.body["messages"])


def _score(service: Service, candidate: dict[str, str], user_id: str = "ada") -> str:
    """Decide, and return the decision's id."""
    candidates = [{"content": "x", "source": "llm", **candidate}]
    answer = service.client.post("/score", json=calls.score(user_id, candidates=candidates))
    assert answer.status_code == 200
    return cast("str", answer.json()["decision_id"])


def _row(db: Engine) -> tuple[Any, ...]:
    with writing(db) as connection:
        return tuple(
            connection.execute(
                text("""
                    SELECT prompt_version, prompt_probability, generation_id::text
                    FROM oo_ml.feature_history ORDER BY position DESC LIMIT 1
                """)
            ).one()
        )
