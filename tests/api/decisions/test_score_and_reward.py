"""Deciding and learning over HTTP, and what it leaves in the tables."""

from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine, text

from tests import calls
from tests.chance import draws
from tests.conftest import Serve
from tests.gates import scalar
from tests.services.sample_users import write
from tests.serving import Service
from tests.sessions import writing


def test_an_answer_says_how_it_was_made(service: Service) -> None:
    """decision_id is a UUIDv7; LinUCB is certain of its choice."""
    answer = service.client.post("/score", json=calls.score()).json()
    assert UUID(answer.pop("decision_id")).version == 7
    assert answer == {"tip_id": "t1", "score": pytest.approx(np.sqrt(2)), "policy": "linucb-v1", "propensity": 1.0}


def test_the_next_decision_has_learned(service: Service) -> None:
    """A dismissed tip loses to its neighbour in the very next call, for this user and this policy alone."""
    for path in ("/score/egreedy", "/score"):
        assert service.client.post(path, json=calls.score()).json()["tip_id"] == "t1"
    service.client.post("/reward/egreedy", json=calls.reward(value=-1))
    assert service.client.post("/score/egreedy", json=calls.score()).json()["tip_id"] == "t2"
    assert service.client.post("/score/egreedy", json=calls.score("ben")).json()["tip_id"] == "t1"
    assert service.client.get("/stats/ada").json()["theta"] == [0.0] * 5


def test_a_decision_is_stored_with_all_that_explains_it(service: Service, db: Engine) -> None:
    """The row holds the candidates, the features raw and encoded, the state's version and the answer as sent."""
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
    assert row["features"] == {"hour_of_day": 9, "is_overdue": False, "task_age_days": 0.0, "priority": 4}
    assert (row["reward"], row["rewarded_at"]) == (None, None)


def test_a_decision_lies_in_the_partition_of_its_month(service: Service, db: Engine) -> None:
    """Not in the default one, which is for what nobody made a partition for."""
    service.client.post("/score", json=calls.score())
    found = scalar(db, "SELECT relname::text FROM oo_ml.feature_history AS h JOIN pg_class AS c ON c.oid = h.tableoid")
    assert found == scalar(db, "SELECT 'feature_history_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")


def test_rewards_go_to_the_latest_decision_that_has_none(service: Service, db: Engine) -> None:
    """Two decisions of one tip: the later is rewarded first; a third reward is learned from all the same."""
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


def test_a_reward_stays_with_its_policy(service: Service, db: Engine) -> None:
    """Epsilon-greedy's reward is not for LinUCB's decision of the same tip."""
    service.client.post("/score", json=calls.score())
    service.client.post("/reward/egreedy", json=calls.reward())
    assert scalar(db, "SELECT count(*) FROM oo_ml.feature_history WHERE reward IS NOT NULL") == 0


def test_exploring_is_counted_and_shown(serve: Serve) -> None:
    """With epsilon 1 every decision is drawn, and says so with its probability."""
    client = serve(epsilon=1).client
    seen: set[str] = set()
    for _ in draws({"t1", "t2"}, seen, rarest=0.5):
        answer = client.post("/score/egreedy", json=calls.score()).json()
        seen.add(answer["tip_id"])
        assert answer["propensity"] == 0.5
    assert seen == {"t1", "t2"}
    assert client.get("/stats/egreedy/ada").json()["exploration_rate"] == 1.0
    assert all(entry["features"]["exploring"] for entry in client.get("/features/ada").json()["history"])


def test_a_tip_offered_twice_is_twice_as_likely_to_be_drawn(serve: Serve) -> None:
    """The propensity is the tip's, not that of one of its places in the list."""
    twin = {"id": "twin", "content": "x", "source": "s"}
    other = {"id": "other", "content": "x", "source": "s"}
    client = serve(epsilon=1).client
    bodies = calls.score(candidates=[twin, other, twin])
    said: dict[str, float] = {}
    for _ in draws({"twin", "other"}, said.keys(), rarest=1 / 3):
        answer = client.post("/score/egreedy", json=bodies).json()
        said[answer["tip_id"]] = answer["propensity"]
    assert said == {"twin": pytest.approx(2 / 3), "other": pytest.approx(1 / 3)}


def test_history_keeps_the_last_hundred_of_both_policies(service: Service) -> None:
    """Oldest first, in the order in which they were made."""
    paths = ["/score", "/score/egreedy"] * 51
    made = [service.client.post(path, json=calls.score()).json() for path in paths]
    history = service.client.get("/features/ada").json()["history"]
    assert [entry["policy"] for entry in history] == [answer["policy"] for answer in made[-100:]]
    assert [entry["ts"] for entry in history] == sorted(entry["ts"] for entry in history)
    assert history[0]["ts"].endswith("Z")


def test_reset_starts_afresh_and_keeps_the_past_for_analysts(service: Service, db: Engine) -> None:
    """A new epoch: nothing of the old one is seen through the calls, all of it is still in the tables."""
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


def test_reset_of_somebody_unknown_makes_nobody(service: Service, db: Engine) -> None:
    """It is fine, and leaves no row."""
    assert service.client.post("/reset/nobody").json() == {"ok": True}
    assert scalar(db, "SELECT count(*) FROM oo_ml.policy_state") == 0


def test_a_thousand_candidates_are_decided_among(service: Service) -> None:
    """The most that a call may bring; the best of them is the last."""
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
def test_content_of_the_chosen_candidate_is_kept(
    service: Service, db: Engine, path: str, sent: dict[str, str | None], kept: str | None
) -> None:
    """It is optional; receipts, lists of decisions and analysts see what was shown, up to 2,000 characters."""
    body = calls.score(candidates=[{"id": "t1", "source": "todoist", **sent}])
    answer = service.client.post(path, json={"items": [body]} if "batch" in path else body)
    assert answer.status_code == 200
    done = answer.json()["outcomes"][0]["body"] if "batch" in path else answer.json()
    assert done["tip_id"] == "t1"
    assert service.client.get(f"/users/ada/decisions/{done['decision_id']}").json()["content"] == kept
    assert [one["content"] for one in service.client.get("/users/ada/decisions").json()["items"]] == [kept]
    assert scalar(db, "SELECT content FROM analytics.tip_scores") == kept


def test_content_that_is_not_sent_is_that_of_the_generated_tip(service: Service, db: Engine) -> None:
    """The latest one of that id, as for its prompt version; what the client sends counts more."""
    write(db, "ada", 0)
    for sent, kept in (({}, "plain"), ({"content": "other"}, "other")):
        body = calls.score(candidates=[{"id": "tip-1", "source": "llm", **sent}])
        decision_id = service.client.post("/score", json=body).json()["decision_id"]
        assert service.client.get(f"/users/ada/decisions/{decision_id}").json()["content"] == kept
