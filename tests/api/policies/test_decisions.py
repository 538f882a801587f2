"""Decisions and rewards by a published policy."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests import calls
from tests.api.decisions.decisions import new_id, read_receipt, reward_of
from tests.conftest import Serve
from tests.gates import scalar
from tests.rows import everything
from tests.scraping import scrape
from tests.serving import Service
from tests.sessions import writing

SCORE = f"/policies/{calls.ARTICLES}/score"
REWARD = f"/policies/{calls.ARTICLES}/reward"
USER = f"/policies/{calls.ARTICLES}/users/ada"


def decide(service: Service, **overrides: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Choose an article, and return the answer."""
    response = service.client.post(SCORE, json=calls.score_articles(**overrides))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def retire(db: Engine) -> None:
    """Retire the policy."""
    with writing(db) as connection:
        connection.execute(
            text("UPDATE oo_ml.policies SET status = 'retired', retired_at = now() WHERE policy = 'articles-v1'")
        )


def test_decision(articles: Service) -> None:
    """The receipt has labels, x, the fields as sent and the definition; propensities sum to 1, each above 0."""
    answer = decide(articles, candidates=[{"id": "a1", "features": {"topic": "sport", "tags": ["x"]}, "content": "A"}])
    assert (answer["tip_id"], answer["policy"], answer["propensity"]) == ("a1", calls.ARTICLES, 1.0)
    receipt = read_receipt(articles, answer)
    assert receipt["definition"] == calls.DEFINITION
    x = dict(zip(receipt["labels"], receipt["x"], strict=True))
    assert (x["one"], x["topic=news"], x["topic=sport"]) == (1, 0, 1)
    assert abs(x["tags#0"]) + abs(x["tags#1"]) + abs(x["tags#2"]) + abs(x["tags#3"]) == 1
    # 9:30 is 142.5 degrees past midnight.
    assert (x["topic=sport x hour_sin"], x["topic=sport x hour_cos"]) == (
        pytest.approx(0.5 * 0.60876143),
        pytest.approx(0.5 * -0.79335334),
    )
    assert receipt["context"] == {"hour": 9.5}
    assert receipt["content"] == "A"
    assert "source" not in receipt["candidates"][0]
    several = read_receipt(articles, decide(articles))
    propensities = [one["propensity"] for one in several["candidates"]]
    assert sum(propensities) == pytest.approx(1)
    assert min(propensities) >= 0.01
    assert several["exploration"] == 0.02


def test_unnamed_fields(articles: Service) -> None:
    """Fields that the definition does not name are kept as they were sent, and change nothing."""
    more = {"words": 820, "score": 0.5, "paid": True, "author": "Bo é", "also": ["x", "y"], "none": None, "big": 2**60}
    candidates = [{"id": "a1", "features": {"topic": "news", **more}}, {"id": "a2", "features": {"topic": "sport"}}]
    plain = [{"id": "a1", "features": {"topic": "news"}}, {"id": "a2", "features": {"topic": "sport"}}]
    name = new_id()
    context = {"hour": 9, "device": "phone"}
    receipt = read_receipt(articles, decide(articles, candidates=candidates, context=context, decision_id=name))
    without = decide(articles, user_id="ben", candidates=plain, context={"hour": 9}, decision_id=name)
    assert receipt["context"] == context
    assert receipt["candidates"][0]["features"] == {"topic": "news", **more}
    other = read_receipt(articles, without, "ben")
    for field in ("x", "tip_id", "score", "propensity"):
        assert receipt[field] == other[field]


@pytest.mark.parametrize(
    ("overrides", "place", "message"),
    [
        ({"context": {}}, ["context", "hour"], "Field required by the policy articles-v1"),
        ({"context": {"hour": None}}, ["context", "hour"], "Field required by the policy articles-v1"),
        ({"context": {"hour": "9"}}, ["context", "hour"], "must be a number from -2.4e+07 to 2.4e+07"),
        (
            {"candidates": [{"id": "a", "features": {"topic": "news"}}, {"id": "b"}]},
            ["candidates", 1, "features", "topic"],
            "Field required by the policy articles-v1",
        ),
        (
            {"candidates": [{"id": "a", "features": {"topic": 7}}]},
            ["candidates", 0, "features", "topic"],
            "must be a text of 1 to 200 bytes",
        ),
        (
            {"candidates": [{"id": "a", "features": {"topic": "news", "tags": [""]}}]},
            ["candidates", 0, "features", "tags"],
            "must be a text of 1 to 200 bytes, or a list of at most 100 of them",
        ),
    ],
    ids=str,
)
def test_fields_of_the_definition(
    articles: Service, db: Engine, overrides: dict[str, Any], place: list[object], message: str
) -> None:
    """A required field that is absent or of a wrong type is a 422 that names its place, alone and in a batch."""
    before = everything(db)
    body = calls.score_articles(**overrides)
    alone = articles.client.post(SCORE, json=body, headers={"X-Request-ID": "r"})
    assert alone.status_code == 422
    [problem] = alone.json()["detail"]
    assert (problem["loc"], problem["msg"]) == (["body", *place], message)
    batch = {"items": [{**body, "policy": calls.ARTICLES}]}
    [outcome] = articles.client.post("/score/batch", json=batch, headers={"X-Request-ID": "r"}).json()["outcomes"]
    assert outcome == {"kind": "refused", "status": 422, "error": alone.json()}
    assert everything(db) == before


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ('{"a": {"b": 1}}', ["a"]),
        ('{"a": [1]}', ["a"]),
        ('{"a": ["x", ["y"]]}', ["a"]),
        ('{"a": NaN}', ["a"]),
        ('{"a": 1e999}', ["a"]),
        ('{"a": "\\u0000"}', ["a"]),
        (f'{{"a": "{"x" * 201}"}}', ["a"]),
        (f'{{"a": "{"é" * 101}"}}', ["a"]),
        (f'{{"a": {json.dumps(["x"] * 101)}}}', ["a"]),
        ('{"": 1}', ["", "[key]"]),
        ('{"a\\n": 1}', ["a\n", "[key]"]),
        (f'{{"{"x" * 1_000_000}": 1}}', ["x" * 100, "[key]"]),
        (json.dumps({f"f{number}": 1 for number in range(101)}), []),
        (json.dumps({f"f{number}": {} for number in range(100_000)}), ["f0"]),
        ("[]", []),
        ("null", []),
    ],
    ids=lambda value: str(value)[:40],
)
def test_invalid_fields(articles: Service, fields: str, place: list[str]) -> None:
    """Raw fields are flat, at most 100, with short names and values that can be stored; a refusal is short."""
    body = json.dumps(calls.score_articles(context="FIELDS")).replace('"FIELDS"', fields)
    answer = articles.client.post(SCORE, content=body)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "context", *place])
    assert len(answer.content) < 40_000


def test_longest_fields(articles: Service) -> None:
    """A hundred fields with the longest names and values are stored."""
    fields = {f"{'n' * 97}{number:03}": "é" * 100 for number in range(97)}
    context = {**fields, "hour": 9.5, "texts": ["x" * 200] * 100, "small": -1.5e-300}
    assert read_receipt(articles, decide(articles, context=context))["context"] == context


def test_unknown_fields_of_bodies(articles: Service) -> None:
    """Unlike the contract's calls these refuse unknown fields beside the raw ones."""
    body = calls.score_articles() | {"colour": "red", "userId": "ada"}
    answer = articles.client.post(SCORE, json=body)
    assert {one["loc"][-1]: one["type"] for one in answer.json()["detail"]} == {
        "colour": "extra_forbidden",
        "userId": "extra_forbidden",
    } | {"userId": "misspelled"}


def test_no_candidates(articles: Service) -> None:
    """Without candidates there is nothing to choose."""
    answer = articles.client.post(SCORE, json=calls.score_articles(candidates=[]))
    assert (answer.status_code, answer.json()["code"]) == (422, "no_candidates")


def test_repeated_decision(articles: Service) -> None:
    """A named decision counts once, in any order of fields, with 9 or 9.0, and in a batch; another one is a 409."""
    body = calls.score_articles(decision_id=new_id(), context={"hour": 9, "device": "phone"})
    first = articles.client.post(SCORE, json=body).json()
    turned = body | {"context": {"device": "phone", "hour": 9.0}}
    assert articles.client.post(SCORE, json=dict(reversed(turned.items()))).json() == first
    [outcome] = articles.client.post("/score/batch", json={"items": [{**turned, "policy": calls.ARTICLES}]}).json()[
        "outcomes"
    ]
    assert outcome["body"] == first
    assert articles.client.get(USER).json()["pulls"] == 1
    for other, path in ((body | {"context": {"hour": 10}}, SCORE), (body, "/policies/uniform-v1/score")):
        answer = articles.client.post(path, json=other)
        assert (answer.status_code, answer.json()["code"]) == (409, "decision_exists")


def test_reward_of_a_decision(articles: Service) -> None:
    """A reward with decision_id counts once, for the decision's policy, whatever the policy in the path."""
    answer = decide(articles)
    reward = reward_of(answer, 0.5)
    learned = articles.client.post("/policies/uniform-v1/reward", json=reward)
    assert learned.json() == {"ok": True, "applied": True, "reward": 0.5, "decision_id": answer["decision_id"]}
    for path in (REWARD, "/reward"):
        assert articles.client.post(path, json=reward).json()["applied"] is False
    assert articles.client.get(USER).json()["reward_count"] == 1
    assert articles.client.get("/policies/uniform-v1/users/ada").json()["reward_count"] == 0
    assert articles.client.get("/users/ada/verify").json()["verified"] is True


def test_reward_without_a_decision(articles: Service) -> None:
    """A reward without a decision is learned from its fields, and counts once by its Idempotency-Key."""
    headers = {"Idempotency-Key": "k"}
    body = calls.reward_article()
    for applied in (True, False):
        answer = articles.client.post(REWARD, json=body, headers=headers)
        assert answer.json() == {"ok": True, "applied": applied, "reward": 1.0, "decision_id": None}
    turned = body | {"features": dict(reversed(body["features"].items()))}
    assert articles.client.post(REWARD, json=turned, headers=headers).json()["applied"] is False
    other = articles.client.post(REWARD, json=body | {"context": {"hour": 3}}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    missing = articles.client.post(REWARD, json=body | {"features": {}})
    assert missing.json()["detail"][0]["loc"] == ["body", "features", "topic"]
    missing = articles.client.post(REWARD, json=body | {"context": {}})
    assert missing.json()["detail"][0]["loc"] == ["body", "context", "hour"]
    known = articles.client.get(USER).json()
    assert (known["pulls"], known["reward_count"], known["cumulative_reward"]) == (0, 1, 1.0)


def test_learning(articles: Service) -> None:
    """After rewards for one topic the policy prefers it."""
    for _ in range(30):
        for topic, value in (("news", -1.0), ("sport", 1.0)):
            body = calls.reward_article(value=value, features={"topic": topic})
            assert articles.client.post(REWARD, json=body).status_code == 200
    candidates = [{"id": topic, "features": {"topic": topic}} for topic in ("news", "sport")]
    receipt = read_receipt(articles, decide(articles, candidates=candidates))
    news, sport = (one["exploit"] for one in receipt["candidates"])
    assert news < -0.5 < 0.5 < sport
    assert receipt["candidates"][1]["propensity"] == pytest.approx(0.99)


def test_more_fields_than_the_contract_has(serve: Serve) -> None:
    """A receipt of a policy of the contract has also the fields that the contract does not know."""
    service = serve()
    task = {"is_overdue": True, "task_age_days": 2.0, "priority": 3}
    body = {
        "user_id": "ada",
        "context": {"hour_of_day": 9, "day_of_week": 2, "season": "winter"},
        "candidates": [{"id": "t1", "features": {**task, "topic": "home"}}],
    }
    receipt = read_receipt(service, service.client.post("/policies/linucb-v1/score", json=body).json())
    assert receipt["context"] == body["context"]
    assert receipt["features"] == {"hour_of_day": 9, "season": "winter", **task, "topic": "home"}
    assert receipt["candidates"][0]["features"] == {**task, "topic": "home"}


def test_retired_policy(articles: Service, db: Engine) -> None:
    """A retired policy makes no more decisions, repeats those it made, learns from late rewards, and is shown."""
    name = new_id()
    answer = decide(articles, decision_id=name)
    retire(db)
    assert decide(articles, decision_id=name) == answer
    items = [{**calls.score_articles(), "policy": calls.ARTICLES}, calls.score()]
    refused = articles.client.post(SCORE, json=calls.score_articles())
    assert (refused.status_code, refused.json()["code"]) == (409, "retired_policy")
    outcomes = articles.client.post("/score/batch", json={"items": items}).json()["outcomes"]
    assert [one["status"] for one in outcomes] == [409, 200]
    assert articles.client.post(REWARD, json=reward_of(answer, 1)).json()["applied"] is True
    assert articles.client.post(REWARD, json=calls.reward_article()).json()["applied"] is True
    shown = articles.client.get(f"/policies/{calls.ARTICLES}").json()
    assert (shown["status"], shown["retired_at"] is None) == ("retired", False)


def test_definition_of_a_later_release(db: Engine, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Calls for a policy whose definition this release can't read are a 503; the log tells it once; others go on."""
    with writing(db) as connection:
        connection.execute(
            text("""
                INSERT INTO oo_ml.policies (policy, status, published_at, description, definition, dimension)
                VALUES ('later-v1', 'active', now(), '',
                    '{"inputs": [], "terms": [{"one": true}], "rule": {"exploration": 1, "tau": 1}}', 1)
            """)
        )
    service = serve(policy_max_age=0.001)
    for _ in range(3):
        assert service.client.post("/score", json=calls.score()).status_code == 200
        answer = service.client.post("/policies/later-v1/score", json=calls.score_articles())
        assert (answer.status_code, answer.json()["code"]) == (503, "unreadable_policy")
        assert answer.json()["detail"] == "The policy later-v1 is of a later release, which this one can't read"
    items = [{**calls.score_articles(), "policy": "later-v1"}, calls.score()]
    outcomes = service.client.post("/score/batch", json={"items": items}).json()["outcomes"]
    assert [one["status"] for one in outcomes] == [503, 200]
    for path in ("/policies/later-v1", "/policies/later-v1/users/ada"):
        assert service.client.get(path).status_code == 503
    assert service.client.get("/analytics/policy-values?policy=later-v1").status_code == 200
    assert "later-v1" in {one["policy"] for one in service.client.get("/policies").json()["items"]}
    told = [record.message for record in caplog.records if "later-v1" in record.message]
    assert len(told) == 1
    assert told[0].startswith("The policy later-v1 is of a later release, which this one can't read: rule.tau: ")


def test_policies_of_the_contract(serve: Serve) -> None:
    """/score decides as /policies/linucb-v1/score with the same fields does, and answers about both are alike."""
    service = serve()
    contract = service.client.post("/score", json=calls.score("ada", decision_id=(name := new_id()))).json()
    body = {
        "user_id": "ben",
        "decision_id": name,
        "context": {"hour_of_day": 9, "day_of_week": 2},
        "candidates": [
            {"id": "t1", "features": {"is_overdue": False, "task_age_days": 0.0, "priority": 4}},
            {"id": "t2", "features": {"is_overdue": False, "task_age_days": 0.0, "priority": 1}},
        ],
    }
    general = service.client.post("/policies/linucb-v1/score", json=body)
    assert general.json() == contract
    receipts = [read_receipt(service, contract, user_id) for user_id in ("ada", "ben")]
    assert receipts[0]["x"] == receipts[1]["x"]
    histories = [service.client.get(f"/features/{user_id}").json()["history"] for user_id in ("ada", "ben")]
    assert histories[0][0]["features"] == histories[1][0]["features"]
    # Fields may be absent: the definition says what stands for them.
    bare = {"user_id": "cleo", "candidates": [{"id": "t1", "features": {"colour": "red"}}]}
    for policy in ("linucb-v1", "egreedy-v1"):
        assert service.client.post(f"/policies/{policy}/score", json=bare).status_code == 200
    assert len(service.client.get("/features/cleo").json()["history"]) == 2


def test_mixed_batch(articles: Service, db: Engine) -> None:
    """A batch has items of any policy, each in its own shape; one item's refusal leaves the others alone."""
    article = calls.score_articles("ben") | {"policy": calls.ARTICLES}
    items: list[Any] = [
        calls.score(),
        article,
        article | {"policy": "articles-v9"},
        # The shape of the contract, for a policy that is not of the contract.
        calls.score("cem") | {"policy": calls.ARTICLES},
        calls.score("cem") | {"policy": "linucb-v2"},
        article | {"context": {}},
        calls.score("ada") | {"policy": "egreedy-v1"},
        article | {"candidates": []},
    ]
    outcomes = articles.client.post("/score/batch", json={"items": items}).json()["outcomes"]
    told = [(one["status"], one.get("error", {}).get("code", "")) for one in outcomes]
    assert told == [
        (200, ""),
        (200, ""),
        (404, "unknown_policy"),
        (422, "invalid"),
        (404, "unknown_policy"),
        (422, "invalid"),
        (200, ""),
        (422, "no_candidates"),
    ]
    assert [outcomes[place]["body"]["policy"] for place in (0, 1, 6)] == ["linucb-v1", calls.ARTICLES, "egreedy-v1"]
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history") == 3
    rewards = [
        calls.reward(),
        calls.reward_article("ben", idempotency_key="k") | {"policy": calls.ARTICLES},
        calls.reward_article("ben", idempotency_key="k") | {"policy": calls.ARTICLES},
        calls.reward_article("ben", features={}) | {"policy": calls.ARTICLES},
    ]
    outcomes = articles.client.post("/reward/batch", json={"items": rewards}).json()["outcomes"]
    assert [one["status"] for one in outcomes] == [200, 200, 200, 422]
    assert [one["body"]["applied"] for one in outcomes[:3]] == [True, True, False]
    # A lone surrogate makes the service read each item by itself.
    again = articles.client.post(
        "/score/batch", content=json.dumps({"items": [article, {"user_id": "\ud800"}, {**article, "policy": "x-v1"}]})
    ).json()["outcomes"]
    assert [one["status"] for one in again] == [200, 422, 404]


def test_unknown_values(articles: Service) -> None:
    """Categories that the definition does not list are counted by policy and input, once a decision."""
    unknown = [{"id": "a1", "features": {"topic": "art"}}, {"id": "a2", "features": {"topic": "news"}}]
    body = calls.score_articles(candidates=unknown, decision_id=new_id())
    for _ in range(2):
        assert articles.client.post(SCORE, json=body).status_code == 200
    items = [{**calls.score_articles(candidates=unknown * 2), "policy": calls.ARTICLES} for _ in range(2)]
    articles.client.post("/score/batch", json={"items": [calls.score(), *items]})
    found = scrape(articles.client)
    assert found.value("oo_ml_unknown_values_total", policy=calls.ARTICLES, input="topic") == 5
    assert found.sum("oo_ml_unknown_values_total") == 5


def test_no_unknown_values(articles: Service) -> None:
    """Known categories and other encodings are no series."""
    decide(articles)
    articles.client.post("/score", json=calls.score())
    assert "oo_ml_unknown_values_total{" not in articles.client.get("/metrics").text
