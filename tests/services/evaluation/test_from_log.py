"""Evaluation from the service's own log, against the known policy and rewards of simulated users."""

from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.evaluation.targets import AlwaysFirst, OwnPolicy, Prompt, Target, Uniform, describe
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB, Rule
from oo_ml.services.evaluation.doubts import DoubtKind
from oo_ml.services.evaluation.from_log import Question, evaluate, walk_log
from oo_ml.services.evaluation.results import Part
from oo_ml.services.users.erase import erase
from oo_ml.services.walk_users import walk_all
from oo_ml.storage.user_ranges import ALL_USERS, UserRange
from tests.conftest import make_settings
from tests.policies import Parameters
from tests.services.evaluation.evaluating import evaluate_ranges, look, rows, run
from tests.sessions import writing
from tests.simulated_users import CERTAIN, NOON, SimulatedUsers

REWARDED: Final = "SELECT reward FROM oo_ml.feature_history WHERE policy = '{}' AND reward IS NOT NULL"


@pytest.mark.parametrize(
    ("policy", "parameters"),
    [(LINUCB, Rule(0.3, 0.7)), (EPSILON_GREEDY, Rule(0.2))],
    ids=["linucb", "egreedy"],
)
def test_policy_of_the_log(db: Engine, policy: str, parameters: Rule) -> None:
    """For the log's own policy every weight is 1 and every estimate is the observed mean, exactly."""
    simulated = SimulatedUsers(db, 1)
    simulated.import_state("ben")
    simulated.act(900)
    rewards = [reward for (reward,) in rows(db, REWARDED.format(policy))]
    evaluation = look(db, OwnPolicy(parameters), policy=policy)
    assert (evaluation.n, evaluation.left_out) == (len(rewards), 0)
    assert evaluation.n > 50
    assert (evaluation.max_weight, evaluation.mean_weight, evaluation.ess) == (1.0, 1.0, evaluation.n)
    assert evaluation.ips.variance == pytest.approx(evaluation.observed.variance, rel=1e-12)
    assert evaluation.ips.estimate == evaluation.snips.estimate == evaluation.observed.estimate
    assert evaluation.observed.estimate == pytest.approx(np.mean(rewards), rel=1e-12)
    assert (evaluation.share_without_support, {doubt.kind for doubt in evaluation.doubts}) == (
        0.0,
        {DoubtKind.FEW_USERS} | ({DoubtKind.SMALL_SAMPLE} if evaluation.n < 100 else set()),
    )
    kinds = {kind for (kind,) in rows(db, "SELECT kind FROM oo_ml.reward_ledger")}
    assert kinds == {"reward", "default", "amend", "retract", "import"}
    assert {kind for (kind,) in rows(db, "SELECT reward_kind FROM oo_ml.feature_history WHERE reward IS NOT NULL")} == {
        None,
        "default",
        "amend",
    }
    # With another parameter it is another policy.
    assert look(db, OwnPolicy(Rule(parameters.exploration / 2, parameters.alpha)), policy=policy).max_weight > 1


@pytest.mark.parametrize("target", [Uniform(), AlwaysFirst()], ids=describe)
def test_other_policies(db: Engine, target: Target) -> None:
    """The true mean reward of another policy lies in every interval, and LinUCB earns more than it."""
    simulated = SimulatedUsers(db, 2, Parameters(alpha=0.3, epsilon=0.0, exploration=0.4))
    for number in range(600):
        simulated.react(simulated.decide(f"user {number % 20}"))
    evaluation = look(db, target)
    of_each = np.mean if isinstance(target, Uniform) else lambda values: values[0]
    truth = np.mean([of_each(values) for values in simulated.worths])
    assert evaluation.n == 600
    assert evaluation.dr is not None
    for estimate in (evaluation.ips, evaluation.snips, evaluation.dr):
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < truth < estimate.high
        assert estimate.high - estimate.low < 0.45
    assert evaluation.ips.variance is not None
    assert evaluation.dr.variance is not None
    assert evaluation.dr.variance < evaluation.ips.variance
    assert evaluation.gain.low is not None
    assert evaluation.gain.high is not None
    assert evaluation.gain.low < truth - evaluation.observed.estimate < evaluation.gain.high
    if isinstance(target, Uniform):
        assert evaluation.gain.high < 0
    assert evaluation.max_weight > 1
    assert 1 < evaluation.ess < 600
    assert evaluation.mean_weight == pytest.approx(1, abs=0.15)
    assert evaluation.share_without_support == 0.0
    assert {doubt.kind for doubt in evaluation.doubts} == ({DoubtKind.SMALL_SAMPLE} if evaluation.ess < 100 else set())


def test_model_before_the_reward(db: Engine) -> None:
    """The expected reward of a decision comes from the model before its reward, as /score answered it."""
    simulated = SimulatedUsers(db, 3)
    for _ in range(30):
        simulated.react(simulated.decide(ids=["a"], parameters=CERTAIN))
    evaluation = look(db, Uniform())
    # There is no choice: w is 1 and q_target is q_logged.
    assert evaluation.dr is not None
    assert evaluation.dr.estimate == pytest.approx(evaluation.observed.estimate)
    expected = []
    for _ in range(30):
        decision_id = simulated.decide("ben", ids=["a", "b"])
        simulated.react(decision_id)
        [(exploit, propensity, chosen, reward)] = rows(
            db,
            "SELECT exploit, propensity, tip_id, reward FROM oo_ml.feature_history WHERE decision_id = :decision_id",
            decision_id=decision_id,
        )
        expected.append(exploit.mean() + 0.5 / propensity * (reward - exploit["ab".index(chosen)]))
    [part] = evaluate_ranges(db, Uniform(), UserRange.of("ben"))
    assert part.summary.mean[3] == pytest.approx(np.mean(expected), rel=1e-9)


def test_decisions_without_propensities(db: Engine) -> None:
    """Decisions of older releases, without propensities, are counted as left out."""
    simulated = SimulatedUsers(db, 9)
    for _ in range(10):
        simulated.react(simulated.decide())
    run(
        db,
        """
        UPDATE oo_ml.feature_history SET exploration = NULL, exploit = NULL, explore = NULL, propensities = NULL
        WHERE version < 4
        """,
    )
    evaluation = look(db, OwnPolicy(Rule(0.3, 0.7)))
    assert (evaluation.n, evaluation.left_out, evaluation.unrewarded, evaluation.max_weight) == (6, 4, 0, 1.0)


def test_erased_user(db: Engine) -> None:
    """An erased user's decisions are gone, and a new user with the same id starts fresh."""
    simulated = SimulatedUsers(db, 10)
    for user_id in ("ada", "ben", "cleo"):
        for _ in range(5):
            simulated.react(simulated.decide(user_id))
    with writing(db) as connection:
        erase(connection, ["ben"])
    simulated.react(simulated.decide("ben"))
    evaluation = look(db, OwnPolicy(Rule(0.3, 0.7)))
    assert (evaluation.n, evaluation.max_weight, evaluation.mean_weight) == (11, 1.0, 1.0)


def test_prompt_version_of_candidates(db: Engine) -> None:
    """A candidate's version is the one the client sent, else that of the latest tip of the same id at the time."""
    simulated = SimulatedUsers(db, 12)
    for version in ("w1", "w2"):
        publish = """
            INSERT INTO oo_ml.prompt_versions (
                version, status, published_at, description, system_template, user_template
            )
            VALUES (:version, 'active', now(), '', 's', 'u')
        """
        run(db, publish, version=version)
    write_tip(db, "b", "w2", NOON)
    write_tip(db, "c", "w1", NOON - timedelta(days=1))
    write_tip(db, "c", "w2", NOON - timedelta(hours=1))
    expected = []
    for _ in range(60):
        decision_id = simulated.decide(ids=["a", "b", "c", "d"], versions=["w2", "w1", None, None])
        simulated.react(decision_id)
        [(chosen, reward, p, version)] = rows(
            db,
            f"""
            SELECT tip_id, reward, propensities, prompt_version
            FROM oo_ml.feature_history WHERE decision_id = '{decision_id}'
            """,  # noqa: S608
        )
        assert version == {"a": "w2", "b": "w1", "c": "w2", "d": None}[chosen]
        expected.append((1 / (p[0] + p[2] + p[3]) if chosen in "ac" else 0.0) * reward)
        simulated.react(simulated.decide(ids=["b", "e"], versions=["w1", None]))
    write_tip(db, "c", "w1", NOON + timedelta(days=1))
    # Committed late: a decision that chose d holds that its version was unknown.
    write_tip(db, "d", "w2", NOON - timedelta(hours=2))
    evaluation = look(db, Prompt("w2"))
    assert (evaluation.n, evaluation.left_out) == (60, 60)
    assert evaluation.ips.estimate == pytest.approx(np.mean(expected), rel=1e-9)


def write_tip(db: Engine, tip_id: str, version: str, at: datetime) -> None:
    """Let a model write ada a tip."""
    generation = UUID(int=int(at.timestamp() * 1000) << 80)
    with writing(db) as connection:
        for statement in (
            """
            INSERT INTO oo_ml.generations (
                user_id, generation_id, prompt_version, created_at, latency_ms, prompt_tokens, completion_tokens,
                requested, attempts, outcome
            ) VALUES ('ada', :generation, :version, :at, 1, 1, 1, 1, 1, 'ok') ON CONFLICT DO NOTHING
            """,
            """
            INSERT INTO oo_ml.tips (user_id, tip_id, generation_id, prompt_version, created_at, place, content)
            VALUES ('ada', :tip_id, :generation, :version, :at, 0, 'text')
            """,
        ):
            connection.execute(
                text(statement), {"generation": generation, "version": version, "at": at, "tip_id": tip_id}
            )


def test_drawn_prompt_version(db: Engine) -> None:
    """If the version was drawn, tips of other versions count with weight 0; if it can't be drawn, they are left out."""
    simulated = SimulatedUsers(db, 13)
    expected = []
    for number in range(80):
        version, q = ("v2", 0.25) if number % 4 == 0 else ("v1", 0.75)
        reward = draw(simulated, version, q, f"user {number // 8}")
        expected.append(4 * reward if version == "v2" else 0.0)
    evaluation = look(db, Prompt("v2"))
    assert (evaluation.n, evaluation.left_out, evaluation.max_weight) == (80, 0, 4.0)
    assert evaluation.mean_weight == pytest.approx(1)
    assert evaluation.ips.estimate == pytest.approx(np.mean(expected), rel=1e-9)
    assert DoubtKind.MEAN_WEIGHT not in {doubt.kind for doubt in evaluation.doubts}
    draw(simulated, "v1", 1.0)
    expected.append(draw(simulated, "v2", 1.0))
    certain = look(db, Prompt("v2"))
    assert (certain.n, certain.left_out) == (81, 1)
    assert certain.ips.estimate == pytest.approx(np.mean(expected), rel=1e-9)
    # As if v1 had had the same chance.
    run(db, "UPDATE oo_ml.feature_history SET prompt_probability = 0.25")
    assert DoubtKind.MEAN_WEIGHT in {doubt.kind for doubt in look(db, Prompt("v1")).doubts}


def draw(simulated: SimulatedUsers, version: str, probability: float, user_id: str = "ada") -> float:
    """Show tips by a version that was drawn; return the reward."""
    decision_id = simulated.decide(user_id, ids=["a", "b", "c"], versions=[version] * 3)
    simulated.react(decision_id)
    run(
        simulated.db,
        "UPDATE oo_ml.feature_history SET prompt_probability = :probability WHERE decision_id = :decision_id",
        probability=probability,
        decision_id=decision_id,
    )
    [(reward,)] = rows(simulated.db, f"SELECT reward FROM oo_ml.feature_history WHERE decision_id = '{decision_id}'")  # noqa: S608
    return float(reward)


@pytest.mark.parametrize("candidates", [1, 7, 10_000])
@pytest.mark.parametrize("page", [1, 3, 1000])
def test_pages_blocks_and_parts(db: Engine, monkeypatch: pytest.MonkeyPatch, candidates: int, page: int) -> None:
    """The result does not depend on pages of the ledger, blocks of decisions or parts of users."""
    simulated = SimulatedUsers(db, 14)
    simulated.act(200, ("ada", "adam", "zoe", "Ödön"))
    [whole] = evaluate_ranges(db, Uniform(), ALL_USERS)
    monkeypatch.setattr("oo_ml.services.decision_blocks._CANDIDATES", candidates)
    users = ("ada", "adam", "zoe", "Ödön")
    parts = evaluate_ranges(db, Uniform(), *(UserRange.of(one) for one in users), page_size=page)
    together = sum(parts, Part())
    assert together.summary.n == whole.summary.n
    assert together.summary.users == whole.summary.users == 4
    assert together.summary.max_weight == whole.summary.max_weight
    assert together.summary.mean == pytest.approx(whole.summary.mean, rel=1e-12)
    one, other = (summary.root.T @ summary.root for summary in (together.summary, whole.summary))
    assert one == pytest.approx(other, rel=1e-9)
    assert (together.states, together.unrewarded) == (whole.states, whole.unrewarded) == (8, whole.unrewarded)
    survey = walk_log(db, make_settings(), Question(Uniform()))
    parts = list(survey.parts)
    # More parts than users: a part has one state, and the last one holds the ids after the last user.
    assert len(parts) > len(users)
    assert (survey.states, sum(part.states for part in parts)) == (8, 8)
    assert sum(part.summary.n for part in parts) == whole.summary.n


def test_users_are_the_sample(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variance comes from totals of users over both policies and all blocks, and each user lies in one part."""
    simulated = SimulatedUsers(db, 15)
    users = [f"user {number}" for number in range(25)]
    for number in range(200):
        user = users[number * number % 25]
        simulated.react(simulated.decide(user, (LINUCB, EPSILON_GREEDY)[number % 2], ids=["a", "b"]))
    monkeypatch.setattr("oo_ml.services.decision_blocks._CANDIDATES", 10)
    parts = [part for part in walk_log(db, make_settings(), Question(Uniform())).parts if part.summary.n]
    rewards = rows(db, "SELECT user_id, reward FROM oo_ml.feature_history")
    by_user = {user: np.array([reward for one, reward in rewards if one == user]) for user, _ in rewards}
    # Each of these parts has one user.
    assert [(part.summary.users, part.summary.n) for part in parts] == [
        (1, len(by_user[user])) for user in sorted(by_user)
    ]
    mean = np.mean([reward for _, reward in rewards])
    squares = sum((own - mean).sum() ** 2 for own in by_user.values())
    evaluation = look(db, Uniform())
    assert evaluation.users == len(by_user)
    assert evaluation.observed.variance == pytest.approx(len(by_user) / (len(by_user) - 1) * squares / 200**2)


def test_users_at_the_limits_of_ranges(db: Engine) -> None:
    """All decisions of a user are in one range, also if one of the user's states is the last of the range."""
    simulated = SimulatedUsers(db, 16)
    for user, policy in (("a", LINUCB), ("b", LINUCB), ("b", EPSILON_GREEDY), ("b\x01", LINUCB), ("c", LINUCB)):
        simulated.react(simulated.decide(user, policy, ids=["a", "b"]))
    service = partial(evaluate, question=Question(Uniform()))
    for size in range(1, 7):
        parts = list(walk_all(db, make_settings(), service, part_size=size).parts)
        assert sum(part.summary.users for part in parts) == 4, size
        assert sum(part.summary.n for part in parts) == 5
