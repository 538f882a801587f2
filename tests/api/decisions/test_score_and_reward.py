"""Deciding and learning over HTTP, and the rows that they write."""

from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine, text

from tests import calls
from tests.chance import draws
from tests.conftest import Serve
from tests.gates import scalar
from tests.services.sample_users import insert_generations
from tests.serving import Service
from tests.sessions import writing


def test_answer_of_score(service: Service) -> None:
    """The answer has a UUIDv7 as decision_id, and propensity 1 if LinUCB does not explore."""
    answer = service.client.post("/score", json=calls.score()).json()
    assert UUID(answer.pop("decision_id")).version == 7
    assert answer == {"tip_id": "t1", "score": pytest.approx(np.sqrt(2)), "policy": "linucb-v1", "propensity": 1.0}


def test_learning_before_the_next_decision(service: Service) -> None:
    """The next decision has learned from a reward, for its user and its policy alone."""
    for path in ("/score/egreedy", "/score"):
        assert service.client.post(path, json=calls.score()).json()["tip_id"] == "t1"
    service.client.post("/reward/egreedy", json=calls.reward(value=-1))
    assert service.client.post("/score/egreedy", json=calls.score()).json()["tip_id"] == "t2"
    assert service.client.post("/score/egreedy", json=calls.score("ben")).json()["tip_id"] == "t1"
    assert service.client.get("/stats/ada").json()["theta"] == [0.0] * 5


def test_stored_decision(service: Service, db: Engine) -> None:
    """The row has the candidates, the features raw and encoded, the state's version and the answer as sent."""
    service.client.post("/reward", json=calls.reward())
    answer = service.client.post("/score", json=calls.score()).json()
    with writing(db) as connection:
        row = connection.execute(text("SELECT * FROM oo_ml.feature_history")).mappings().one()
    assert row["answer"] == answer
    assert (str(row["decision_id"]), row["tip_id"]) == (answer["decision_id"], answer["tip_id"])
    assert (row["policy"], row["epoch"], row["version"], row["exploring"]) == ("linucb-v1", 0, 1, False)
    assert row["x"].tolist() == pytest.approx([np.sqrt(0.5), -np.sqrt(0.5), 0, 0, 1])
    assert [candidate["id"] for candidate in row["candidates"]] == ["t1", "t2"]
    assert row["context"] == {"hour_of_day": 9, "day_of_week": 2}
    assert row["features"] == {"is_overdue": False, "task_age_days": 0.0, "priority": 4}
    assert (row["reward"], row["rewarded_at"]) == (None, None)


def test_partition_of_a_decision(service: Service, db: Engine) -> None:
    """A decision is stored in the partition of its month, not in the default partition."""
    service.client.post("/score", json=calls.score())
    found = scalar(db, "SELECT relname::text FROM oo_ml.feature_history AS h JOIN pg_class AS c ON c.oid = h.tableoid")
    assert found == scalar(db, "SELECT 'feature_history_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")


def test_decision_of_a_reward(service: Service, db: Engine) -> None:
    """A reward goes to the latest decision of its tip without a reward; if there is none, it is still learned."""
    ids = [service.client.post("/score", json=calls.score()).json()["decision_id"] for _ in range(2)]
    for value in (1.0, 0.0, -1.0):
        service.client.post("/reward", json=calls.reward(value=value))
    with writing(db) as connection:
        rewards = connection.execute(
            text("SELECT decision_id::text, reward FROM oo_ml.feature_history ORDER BY position")
        ).all()
        ledger = connection.execute(
            text("SELECT version, decision_id::text, tip_id, reward FROM oo_ml.reward_ledger ORDER BY version")
        ).all()
    assert rewards == [(ids[0], 0.0), (ids[1], 1.0)]
    assert ledger == [(1, ids[1], "t1", 1.0), (2, ids[0], "t1", 0.0), (3, None, "t1", -1.0)]


def test_policy_of_a_reward(service: Service, db: Engine) -> None:
    """A reward for epsilon-greedy does not go to LinUCB's decision of the same tip."""
    service.client.post("/score", json=calls.score())
    service.client.post("/reward/egreedy", json=calls.reward())
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history WHERE reward IS NOT NULL") == 0


def test_exploration_of_epsilon_greedy(serve: Serve) -> None:
    """With OO_ML_EPSILON=1 every decision is drawn, counted as exploring, and has its propensity."""
    client = serve(epsilon=1).client
    seen: set[str] = set()
    for _ in draws({"t1", "t2"}, seen, rarest=0.5):
        answer = client.post("/score/egreedy", json=calls.score()).json()
        seen.add(answer["tip_id"])
        assert answer["propensity"] == 0.5
    assert seen == {"t1", "t2"}
    assert client.get("/stats/egreedy/ada").json()["exploration_rate"] == 1.0
    assert all(entry["features"]["exploring"] for entry in client.get("/features/ada").json()["history"])


def test_propensity_of_duplicate_candidates(serve: Serve) -> None:
    """The propensity of a candidate sent twice is the sum over both of its places."""
    twin = {"id": "twin", "content": "x", "source": "s"}
    other = {"id": "other", "content": "x", "source": "s"}
    client = serve(epsilon=1).client
    bodies = calls.score(candidates=[twin, other, twin])
    said: dict[str, float] = {}
    for _ in draws({"twin", "other"}, said.keys(), rarest=1 / 3):
        answer = client.post("/score/egreedy", json=bodies).json()
        said[answer["tip_id"]] = answer["propensity"]
    assert said == {"twin": pytest.approx(2 / 3), "other": pytest.approx(1 / 3)}


def test_history(service: Service) -> None:
    """/features has the last 100 decisions of both policies, in the order in which they were made."""
    paths = ["/score", "/score/egreedy"] * 51
    made = [service.client.post(path, json=calls.score()).json() for path in paths]
    history = service.client.get("/features/ada").json()["history"]
    assert [entry["policy"] for entry in history] == [answer["policy"] for answer in made[-100:]]
    assert [entry["ts"] for entry in history] == sorted(entry["ts"] for entry in history)
    assert history[0]["ts"].endswith("Z")


def test_reset(service: Service, db: Engine) -> None:
    """A reset begins a new epoch: calls see nothing of the old one, and the tables keep all of it."""
    service.client.post("/score", json=calls.score())
    service.client.post("/reward", json=calls.reward())
    assert service.client.post("/reset/ada").json() == {"ok": True}
    assert service.client.get("/features/ada").json()["history"] == []
    stats = service.client.get("/stats/ada").json()
    assert (stats["pulls"], stats["reward_count"], stats["last_updated"]) == (0, 0, None)
    service.client.post("/score", json=calls.score())
    service.client.post("/reward", json=calls.reward())
    assert scalar(db, "SELECT array_agg((epoch, version)::text ORDER BY epoch) FROM oo_ml.reward_ledger") == [
        "(0,1)",
        "(1,1)",
    ]
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history WHERE reward = 1") == 2


def test_reset_of_an_unknown_user(service: Service, db: Engine) -> None:
    """Resetting an unknown user succeeds and creates no row."""
    assert service.client.post("/reset/zoe").json() == {"ok": True}
    assert scalar(db, "SELECT count(*) FROM oo_ml.policy_state") == 0


def test_most_candidates(service: Service) -> None:
    """A decision may have 1,000 candidates, and the last one can win."""
    candidates = [{"id": f"t{i}", "content": "x", "source": "s", "features": {"priority": 1}} for i in range(999)]
    candidates.append({"id": "best", "content": "x", "source": "s", "features": {"priority": 4}})
    answer = service.client.post("/score", json=calls.score(candidates=candidates))
    assert (answer.status_code, answer.json()["tip_id"]) == (200, "best")


@pytest.mark.parametrize("path", ["/score", "/score/egreedy", "/score/batch"])
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({}, None),
        ({"content": None}, None),
        ({"content": ""}, ""),
        ({"content": 'Call the "dentist"'}, 'Call the "dentist"'),
        ({"content": "😀" * 2000}, "😀" * 2000),
        ({"content": "😀" * 2001}, "😀" * 2000),
    ],
    ids=["none", "null", "empty", "short", "long", "too long"],
)
def test_content_of_the_chosen_candidate(
    service: Service, db: Engine, path: str, sent: dict[str, str | None], kept: str | None
) -> None:
    """Up to 2,000 characters of its content are stored and appear in receipts, lists and the analytics views."""
    body = calls.score(candidates=[{"id": "t1", "source": "todoist", **sent}])
    answer = service.client.post(path, json={"items": [body]} if "batch" in path else body)
    assert answer.status_code == 200
    done = answer.json()["outcomes"][0]["body"] if "batch" in path else answer.json()
    assert done["tip_id"] == "t1"
    assert service.client.get(f"/users/ada/decisions/{done['decision_id']}").json()["content"] == kept
    assert [one["content"] for one in service.client.get("/users/ada/decisions").json()["items"]] == [kept]
    assert scalar(db, "SELECT content FROM analytics.tip_scores") == kept


def test_content_of_a_generated_tip(service: Service, db: Engine) -> None:
    """A candidate without content has that of the latest generated tip with its id; content that is sent wins."""
    insert_generations(db, "ada", 0)
    for sent, kept in (({}, "plain"), ({"content": "other"}, "other")):
        body = calls.score(candidates=[{"id": "tip-1", "source": "llm", **sent}])
        decision_id = service.client.post("/score", json=body).json()["decision_id"]
        assert service.client.get(f"/users/ada/decisions/{decision_id}").json()["content"] == kept
