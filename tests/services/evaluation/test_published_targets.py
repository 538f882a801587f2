"""Published policies as targets: the state that a target would have had, and decisions that it can't read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain import policies
from oo_ml.domain.evaluation.targets import Published, Uniform
from oo_ml.domain.evidence import Evidence
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB, Policy
from oo_ml.domain.ridge import Ridge, stack
from oo_ml.errors import NothingToEvaluateError, UnknownPolicyError
from oo_ml.services.decision_blocks import Made
from oo_ml.services.evaluation.evidence import fold_evidence
from oo_ml.services.policies.compiled import read_policies
from oo_ml.storage import decision_log
from oo_ml.storage.user_ranges import ALL_USERS
from tests.services.evaluation.evaluating import look, run
from tests.services.policies.readers import Readers, define, publish_policy
from tests.sessions import writing
from tests.simulated_users import SimulatedUsers

RENAMED: Final[dict[str, Any]] = define(
    inputs=[
        {"name": "h", "of": "context", "field": "hour", "encoding": "cyclic", "period": 24},
        {"name": "kind", "of": "candidate", "field": "topic", "encoding": "category", "values": ["news", "sport"]},
        {"name": "words", "of": "candidate", "field": "tags", "encoding": "hashed", "buckets": 4, "missing": []},
    ],
    terms=[{"one": True}, {"input": "kind"}, {"input": "words"}, {"product": ["kind", "h"], "times": 0.5}],
    rule={"alpha": 0.3, "exploration": 0.1},
)
# Other features, from fields of which the log's policy used one and ignored the other.
LENGTH: Final[dict[str, Any]] = {
    "inputs": [
        {"name": "words", "of": "candidate", "encoding": "number", "min": 0, "max": 1000, "minus": 0.4},
        {"name": "is_day", "of": "context", "encoding": "boolean", "missing": True},
        {"name": "topic", "of": "candidate", "encoding": "category", "values": ["arts", "sport"]},
    ],
    "terms": [{"input": "words"}, {"input": "topic"}, {"product": ["words", "is_day"]}],
    "rule": {"alpha": 0.5, "sigma": 0.3, "exploration": 0.1},
}


UNIFORM: Final = "uniform-v1"


@pytest.fixture
def readers(db: Engine) -> Readers:
    """Two readers with every kind of ledger entry about a decision."""
    simulated = Readers(db, publish_policy(db, "news-v1"))
    for user_id in ("ada", "ben"):
        simulated.live(user_id, 24)
    return simulated


@contextmanager
def rebuilding(db: Engine, target: Policy) -> Iterator[Iterator[Made]]:
    """Yield the decisions of the log with their evidence and that of the target."""
    with writing(db) as connection:
        published = read_policies(connection, {})
        asked = decision_log.Asked(list(published))
        decisions = list(decision_log.read_decisions(connection, ALL_USERS, asked, versions=False))
        yield fold_evidence(decisions, decision_log.read_ledger(connection, ALL_USERS, 7), published, target)


@pytest.mark.usefixtures("readers")
def test_state_by_the_same_features(db: Engine) -> None:
    """By the same columns under other names, the target's evidence is that of the log's policy, bit for bit."""
    with rebuilding(db, publish_policy(db, "renamed-v1", RENAMED)) as made:
        found = [(one.evidence, one.target_evidence, one.unlearned) for one in made]
    assert len(found) == 40
    assert any(evidence.b.any() for evidence, *_ in found)
    for evidence, of_target, unlearned in found:
        assert of_target is not None
        # Before the first reward, all evidence of a dimension is one object.
        assert of_target is not evidence or evidence is Evidence.alone(evidence.dimension)
        assert (of_target.A.tobytes(), of_target.b.tobytes()) == (evidence.A.tobytes(), evidence.b.tobytes())
        assert unlearned == 0


def test_same_inputs_and_terms(db: Engine, readers: Readers) -> None:
    """A target with the inputs and terms of the log's policy chooses by the log's own model, by its own rule."""
    target = publish_policy(db, "bold-v1", define(rule=RENAMED["rule"]))
    publish_policy(db, "renamed-v1", RENAMED)
    with rebuilding(db, target) as made:
        assert {one.target_evidence for one in made} == {None}
    bold, renamed = look(db, Published("bold-v1")), look(db, Published("renamed-v1"))
    assert (bold.n, bold.ips, bold.dr) == (renamed.n, renamed.ips, renamed.dr)
    assert bold.max_weight != 1
    # The log's own model knows rewards without a decision too.
    readers.teach("ada")
    readers.react(readers.decide("ada"))
    assert (look(db, Published("bold-v1")).unlearned, look(db, Published("renamed-v1")).unlearned) == (0, 1)


@pytest.mark.usefixtures("readers")
def test_state_by_other_features(db: Engine) -> None:
    """The target's model at a decision is that of the rewards that counted then, by its own features."""
    target = publish_policy(db, "length-v1", LENGTH)
    with writing(db) as connection:
        ledger = connection.execute(
            text("""
                SELECT l.user_id, l.version, l.decision_id, l.reward, h.context, h.features
                FROM oo_ml.reward_ledger AS l
                JOIN oo_ml.feature_history AS h USING (user_id, decision_id)
                ORDER BY l.user_id, l.version
            """)
        ).all()
    terms = []
    with rebuilding(db, target) as rebuilt:
        made = list(rebuilt)
    assert len(made) == 40
    for one in made:
        decision = one.decision
        counting: dict[Any, Any] = {}
        for entry in ledger:
            if entry.user_id == decision.user_id and entry.version <= decision.version:
                counting[entry.decision_id] = entry
        A, b = np.eye(4), np.zeros(4)
        for entry in counting.values():
            if entry.reward is not None:
                x = encode(entry.context, entry.features)
                A += np.outer(x, x)
                b += entry.reward * x
        assert one.target_evidence is not None
        assert pytest.approx(A) == one.target_evidence.A
        assert one.target_evidence.b == pytest.approx(b)
        X = np.array([encode(decision.context, candidate["features"]) for candidate in decision.candidates])
        [choice] = policies.choose(target.rule, stack([Ridge(A, b)]), [0], X, [5], [0])
        place = [candidate["id"] for candidate in decision.candidates].index(decision.tip_id)
        assert decision.reward is not None
        terms.append(choice.propensities[place] / decision.propensity * decision.reward)
    found = look(db, Published("length-v1"))
    assert (found.n, found.left_out, found.unlearned) == (40, 0, 0)
    assert found.ips.estimate == pytest.approx(np.mean(terms), rel=1e-9)


def encode(context: dict[str, Any], features: dict[str, Any]) -> np.ndarray:
    """Return x of LENGTH, by its definition."""
    words = features["words"] / 1000 - 0.4
    topic = [float(features["topic"] == name) for name in ("arts", "sport")]
    return np.array([words, *topic, words * float(context.get("is_day", True))])


def test_entries_without_raw_fields(db: Engine, readers: Readers) -> None:
    """The target's state leaves out, and counts, rewards without a decision and those of decisions past retention."""
    publish_policy(db, "length-v1", LENGTH)
    assert look(db, Published("length-v1")).unlearned == 0
    readers.teach("ada")
    # Nothing was decided since.
    assert look(db, Published("length-v1")).unlearned == 0
    readers.react(readers.decide("ada"))
    assert look(db, Published("length-v1")).unlearned == 1
    run(db, "DELETE FROM oo_ml.feature_history WHERE user_id = 'ben' AND version = 0")
    found = look(db, Published("length-v1"))
    # The first decision of ben has one entry.
    assert (found.n, found.unlearned) == (40, 2)


def test_absent_fields(db: Engine, readers: Readers) -> None:
    """Decisions without a field that the target needs are left out and counted by field, here and in its state."""
    needy = {**LENGTH, "inputs": [*LENGTH["inputs"], {"name": "mood", "of": "context", "encoding": "boolean"}]}
    publish_policy(db, "mood-v1", {**needy, "terms": [*LENGTH["terms"], {"product": ["words", "mood"]}]})
    with pytest.raises(NothingToEvaluateError) as nothing:
        look(db, Published("mood-v1"))
    assert nothing.value.message == (
        "The log holds no decision to evaluate, only 10 without a reward, 40 without a valid context.mood, which the"
        " target needs"
    )
    for mood in (True, False, "good"):
        readers.react(readers.decide("ada", mood=mood))
    found = look(db, Published("mood-v1"))
    assert (found.n, found.left_out, found.unreadable) == (2, 41, {"context.mood": 41})
    # All but the last three of ada, and the one of ben after the last decision that has a reward.
    assert found.unlearned == len(read_entries(db, "ada")) - 3 + len(read_entries(db, "ben")) - 1


def read_entries(db: Engine, user_id: str) -> list[Any]:
    """Return the ledger entries of a user."""
    with writing(db) as connection:
        statement = text("SELECT version FROM oo_ml.reward_ledger WHERE user_id = :user_id")
        return list(connection.execute(statement, {"user_id": user_id}))


def test_policies_of_the_contract(db: Engine) -> None:
    """The contract's policies are targets with the rules of the settings, on the log of either, imports left out."""
    simulated = SimulatedUsers(db, 4)
    simulated.import_state("ada")
    for policy in (LINUCB, EPSILON_GREEDY):
        for _ in range(30):
            simulated.react(simulated.decide("ada", policy, ids=["a", "b", "c"]))
    found = {name: look(db, Published(name)) for name in (LINUCB, EPSILON_GREEDY, UNIFORM)}
    assert [one.n for one in found.values()] == [60] * 3
    # One import by the other policy; without features of the tips, uniform-v1 has a model of its own for both.
    assert [one.unlearned for one in found.values()] == [1, 1, 2]
    uniform = look(db, Uniform())
    assert (found[UNIFORM].ips, found[UNIFORM].dr) == (uniform.ips, uniform.dr)
    # alpha is 1 by the settings of the tests, and the log was made with 0.7.
    assert found[LINUCB].max_weight > 1


@pytest.mark.usefixtures("readers")
def test_unknown_names(db: Engine) -> None:
    """A name that no policy has is refused, as target and as policy of the log."""
    with pytest.raises(UnknownPolicyError, match=r"^Unknown target: news-v9; use uniform, .* published policy$"):
        look(db, Published("news-v9"))
    with pytest.raises(UnknownPolicyError, match=r"^Unknown policy: news-v9; `oo-ml policies list` shows"):
        look(db, Uniform(), policy="news-v9")
    assert look(db, Uniform(), policy="news-v1").n == 40
