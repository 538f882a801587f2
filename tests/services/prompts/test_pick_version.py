"""The choice of the prompt version: by name, by weights or by rewards."""

from collections import Counter
from collections.abc import Iterator, Sequence
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import LINUCB
from oo_ml.domain.version_probabilities import FLOOR
from oo_ml.errors import OoMlError
from oo_ml.services.decisions.decide import DecideCommand
from oo_ml.services.decisions.learn import CorrectCommand, DecisionRewardCommand, correct, learn
from oo_ml.services.prompts.pick_version import PickCommand, VersionProbability, find_options, list_traffic, pick
from oo_ml.services.prompts.registry import WeighCommand, draft, publish, weigh
from oo_ml.storage import generations, prompt_versions
from oo_ml.storage.generations import GenerationRow, TipRow
from oo_ml.storage.postgres.sessions import Writing
from tests.candidates import build_candidate, build_context, build_task
from tests.conftest import make_settings
from tests.gates import scalar
from tests.policies import Parameters, builtin, decide_by
from tests.services.prompts.versions import (
    CHI_SQUARE,
    NOON,
    V1,
    V2,
    V3,
    describe,
    pick_versions,
    retire_version,
    set_weights,
)
from tests.sessions import writing

WEIGHTED = {(V2, 0.25), (V3, 0.75)}
ORDER: list[tuple[str | None, dict[str, str], bool, set[tuple[str, float]]]] = [
    (V1, {"tip_prompt_version": V2}, True, {(V1, 1.0)}),
    (None, {"tip_prompt_version": V1}, True, {(V1, 1.0)}),
    (None, {"tip_prompt_version": f"{V1}, {V2}"}, True, {(V1, 0.5), (V2, 0.5)}),
    (None, {"tip_prompt_version": f"{V1},v9,{V1},{V3}"}, True, {(V1, 2 / 3), (V3, 1 / 3)}),
    (None, {"default_prompt_version": V1}, True, WEIGHTED),
    (None, {"default_prompt_version": V2}, False, {(V2, 1.0)}),
    (None, {}, False, {(V1, 1.0)}),
    (None, {"default_prompt_version": " "}, False, {(V1, 1.0)}),
    ("auto", {}, True, {("Unknown prompt_version: auto", 0.0)}),
    (None, {"tip_prompt_version": "v9,v1"}, True, {(V1, 1.0)}),
    (None, {"tip_prompt_version": "v9,v8"}, True, {("Unknown prompt_version: v9", 0.0)}),
]


@pytest.mark.parametrize(("named", "settings", "weighted", "expected"), ORDER)
def test_precedence(
    db: Engine, named: str | None, settings: dict[str, str], weighted: bool, expected: set[tuple[str, float]]
) -> None:
    """The first of these decides: request, TIP_PROMPT_VERSION, weights above 0, DEFAULT_PROMPT_VERSION, v1."""
    if weighted:
        set_weights(db, v2=1, v3=3)
    assert set(pick_versions(db, range(40), named=named, **settings)) == expected
    assert scalar(db, "SELECT count(*) FROM oo_ml.prompt_assignments") == 0


def test_retired_versions(db: Engine) -> None:
    """A retired version is never drawn, whatever its weight; if all are retired, a call that names none is refused."""
    set_weights(db, v1=5, v2=1, v3=3)
    retire_version(db, V1)
    assert set(pick_versions(db, range(40))) == WEIGHTED
    assert {version for version, _ in pick_versions(db, range(40), tip_prompt_version="auto")} == {V2, V3}
    retire_version(db, V2)
    retire_version(db, V3)
    for configured in ("", "auto", "v1,v2-mentor"):
        assert pick_versions(db, [1], tip_prompt_version=configured) == [("Retired prompt_version: v1", 0.0)]


def test_traffic_of_a_new_version(db: Engine) -> None:
    """A new version gets no traffic until it gets a weight."""
    set_weights(db, v1=1)
    drafted = draft(
        version="v4", description="", system_template="Be brief.", user_template="{{ n }} tips.", published_at=NOON
    )
    with writing(db) as connection:
        publish(connection, [drafted])
    assert set(pick_versions(db, range(20))) == {(V1, 1.0)}
    with writing(db) as connection:
        weigh(connection, [WeighCommand("v4", 3)])
    assert set(pick_versions(db, range(20))) == {(V1, 0.25), ("v4", 0.75)}


def test_prompt_probability_is_frequency(db: Engine) -> None:
    """Each version is drawn as often as `prompt_probability` says (chi-square), and an id always gets the same one."""
    set_weights(db, v1=0.3, v2=0.1, v3=1.6)
    drawn = pick_versions(db, range(3000))
    assert dict(drawn) == pytest.approx({V1: 0.15, V2: 0.05, V3: 0.8})
    counts = Counter(version for version, _ in drawn)
    assert sum((counts[version] - 3000 * p) ** 2 / (3000 * p) for version, p in dict(drawn).items()) < CHI_SQUARE
    assert pick_versions(db, range(100)) == drawn[:100]


def test_traffic(db: Engine) -> None:
    """Each version is listed with the probability that a call that names no version gets it."""
    set_weights(db, v2=1, v3=3)
    retire_version(db, V1)
    for configured, expected in [("", [0, 0.25, 0.75]), (V2, [0, 1, 0]), ("auto", [0, 0.5, 0.5]), (V1, [0, 0, 0])]:
        with writing(db) as connection:
            [listing] = list_traffic(connection, [None], settings=make_settings(tip_prompt_version=configured))
        assert [option.prompt.version for option in listing] == [V1, V2, V3]
        assert [option.probability for option in listing] == pytest.approx(expected, abs=0.03)


PARAMETERS = Parameters(alpha=1.0, epsilon=0.0, exploration=0.4)


class World:
    """Users who get tips of the prompt versions, through the services, and react to them."""

    def __init__(self, connection: Writing) -> None:
        self.connection = connection
        self.count = 0

    def show(self, drawn: Sequence[tuple[str, float]], rewards: Sequence[float | None]) -> list[DecideCommand]:
        """For each version drawn, store two tips, decide between them, and send a reward unless it is None."""
        commands = []
        for version, probability in drawn:
            self.count += 1
            user_id, generation_id = f"user {self.count % 7}", UUID(int=self.count)
            row = GenerationRow(user_id, generation_id, version, probability, NOON, 1, 1, 1, 2, 1, "ok", "m", None)
            tips = [f"tip {self.count} {place}" for place in range(2)]
            generations.insert_generation(
                self.connection,
                row,
                [
                    TipRow(user_id, tip, generation_id, version, probability, NOON, place, "x", None)
                    for place, tip in enumerate(tips)
                ],
            )
            candidates = [build_candidate(tip, "llm", build_task(False, 0.0, 1)) for tip in tips]
            commands.append(
                DecideCommand(user_id, builtin(LINUCB), UUID(int=self.count), NOON, build_context(9, 2), candidates)
            )
        answers = decide_by(PARAMETERS, self.connection, commands)
        reactions = [
            DecisionRewardCommand(command.user_id, command.decision_id, answer.content["tip_id"], reward, NOON)
            for command, answer, reward in zip(commands, answers, rewards, strict=True)
            if not isinstance(answer, OoMlError) and reward is not None
        ]
        learn(self.connection, reactions)
        return commands


@pytest.fixture
def world(db: Engine) -> Iterator[World]:
    """Return a world without decisions."""
    with writing(db) as connection:
        yield World(connection)


def test_evidence(world: World) -> None:
    """Evidence is the mean reward with weights 1 / (propensity x probability), and the effective number of rewards."""
    drawn = [(V1, 0.3), (V2, 0.7), (V1, 0.05), (V1, 0.6), (V2, 0.7), (V3, 1.0), (V1, 0.5), (V3, 1.0)]
    commands = world.show(drawn, [1.0, -0.5, 0.25, -1.0, 0.0, None, None, 1.0])
    correct(
        world.connection,
        [
            CorrectCommand(commands[3].user_id, commands[3].decision_id, 0.5, NOON),
            CorrectCommand(commands[7].user_id, commands[7].decision_id, None, NOON),
        ],
    )
    rows = world.connection.execute(
        text(
            "SELECT prompt_version, propensity, prompt_probability, reward FROM oo_ml.feature_history ORDER BY position"
        )
    ).all()
    assert [tuple(row)[::2] for row in rows] == drawn
    found = prompt_versions.read_evidence(world.connection, [V1, V2, V3])
    for version in (V1, V2):
        own = [row for row in rows if row.prompt_version == version and row.reward is not None]
        w = np.array([1 / (row.propensity * row.prompt_probability) for row in own])
        r = np.array([row.reward for row in own])
        assert found[version].mean_reward == pytest.approx((w * r).sum() / w.sum())
        assert found[version].rewards == pytest.approx(w.sum() ** 2 / (w * w).sum())
    assert found.keys() == {V1, V2}
    assert prompt_versions.read_evidence(world.connection, [V2]).keys() == {V2}


def test_probabilities_by_rewards(world: World) -> None:
    """The best of three versions is drawn most, each as often as its probability says, with no probability below 5%."""
    settings = make_settings(tip_prompt_version="auto")
    means = {V1: -0.3, V2: 0.1, V3: 0.6}
    chance = np.random.default_rng(11)
    expected: Counter[str] = Counter()
    picked: Counter[str] = Counter()
    found: dict[str, float] = {}
    for start in range(0, 400, 10):
        commands = [PickCommand("ada", UUID(int=start + n), NOON) for n in range(10)]
        drawn = [describe(outcome) for outcome in pick(world.connection, commands, settings=settings)]
        for command, (version, probability) in zip(commands, drawn, strict=True):
            found = get_probabilities(find_options(world.connection, settings, command.generation_id.int))
            assert min(found.values()) >= FLOOR
            assert probability == found[version]
            expected.update(found)
            picked[version] += 1
        world.show(drawn, [1.0 if chance.random() < (1 + means[version]) / 2 else -1.0 for version, _ in drawn])
    assert sum((picked[version] - expected[version]) ** 2 / expected[version] for version in means) < CHI_SQUARE
    assert found[V3] > 0.5
    assert picked[V3] > 200
    assert picked[V1] >= 10
    stored = world.connection.scalars(text("SELECT min(prompt_probability) FROM oo_ml.feature_history")).one()
    assert stored >= FLOOR


def get_probabilities(options: list[VersionProbability] | OoMlError) -> dict[str, float]:
    """Return the probability of each version."""
    assert not isinstance(options, OoMlError)
    return {option.prompt.version: option.probability for option in options}
