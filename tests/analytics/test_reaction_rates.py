"""reaction_rates against plain Python over the decisions, counted by upkeep or not."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.errors import OoMlError
from oo_ml.services.decisions.learn import CorrectCommand, correct
from tests.analytics.intervals import build_interval, compute_wilson, find_group
from tests.analytics.test_contract import REACTIONS, VIEWS
from tests.policies import DIMENSIONS
from tests.services.upkeep.daily_sums.counting import count_all
from tests.sessions import writing
from tests.simulated_users import CERTAIN, SimulatedUsers

NAMES = {1.0: "done", 0.5: "helpful", 0.0: "snooze", -0.5: "not_helpful", -1.0: "dismiss"}
Row = Mapping[Any, Any]


def test_reaction_rates(db: Engine, database_url: str) -> None:
    """Every number equals the one from the decisions, by version, policy, both, neither, and by day."""
    simulated = SimulatedUsers(db, 11)
    simulated.act(250)
    with writing(db) as connection:
        # As if some of the versions had been drawn by weight.
        connection.execute(
            text(
                "UPDATE oo_ml.feature_history SET prompt_probability = 0.3 + 0.1 * (pull % 5)"
                " WHERE prompt_version = 'v1'"
            )
        )
    assert_right(db)
    count_all(db, database_url)
    assert_right(db)
    simulated.act(60)
    assert_right(db)


@pytest.mark.parametrize("certain", [1, 3, 40])
def test_partly_without_exploration(db: Engine, database_url: str, certain: int) -> None:
    """Weighted numbers stay as long as few decisions gave a candidate no chance, counted by upkeep or not."""
    simulated = SimulatedUsers(db, 13)
    simulated.act(250)
    simulated.parameters = CERTAIN
    for _ in range(certain):
        simulated.decide("ada", LINUCB, ids="ab", versions=["v1", None])
    for _ in range(2):
        assert_right(db)
        [(every, reason)] = read_versions(db, "grouped_by = 'all'")
        assert (every is None) is (reason is not None) is (certain == 40)
        count_all(db, database_url)


def test_version_shown_only_with_exploration(db: Engine) -> None:
    """A version is unknown if it lost many decisions without a chance, though its own are all supported."""
    simulated = SimulatedUsers(db, 14)
    for _ in range(40):
        simulated.decide("ada", LINUCB, ids=["old", "new"], versions=["v1", "v2"], parameters=CERTAIN)
    for _ in range(160):
        simulated.decide("ben", EPSILON_GREEDY, ids=["old", "new"], versions=["v1", "v2"])
    with writing(db) as connection:
        # As if the first version had won each decision without a chance for the second.
        connection.execute(text("UPDATE oo_ml.feature_history SET prompt_version = 'v1' WHERE propensity = 1"))
    assert read_versions(db, "grouped_by = 'prompt_version' AND prompt_version = 'v2'") == [
        (None, "in more than 5 % of the decisions some candidate had no chance")
    ]
    both = {policy: read_versions(db, f"grouped_by = 'both' AND policy = '{policy}'") for policy in DIMENSIONS}
    assert both[LINUCB] == [(None, "nothing was drawn at random")]
    assert [reason for _, reason in both[EPSILON_GREEDY]] == [None, None]


def test_few_draws(db: Engine) -> None:
    """Weighted numbers begin with the tenth draw: fewer may all have hit the preferred tip."""
    simulated = SimulatedUsers(db, 15)
    seen = set()
    for _ in range(90):
        simulated.decide("ada", LINUCB, ids=["a", "b"], versions=["v1", "v1"])
        [(rate, reason)] = read_versions(db, "grouped_by = 'all'")
        with writing(db) as connection:
            drawn = connection.scalar(text("SELECT count(*) FROM oo_ml.feature_history WHERE exploring")) or 0
        if drawn == 0:
            expected: str | None = "nothing was drawn at random"
        else:
            expected = "fewer than 10 tips were drawn at random" if drawn < 10 else None
        assert (reason, rate is None) == (expected, expected is not None)
        seen.add(expected)
    assert seen >= {None, "fewer than 10 tips were drawn at random"}


def read_versions(db: Engine, condition: str) -> list[tuple[float | None, str | None]]:
    """Return the weighted rate of `reacted` and the reason why it is unknown, of some rows."""
    statement = f"SELECT reacted_weighted_rate, unknown_because FROM analytics.reaction_rates WHERE {condition}"  # noqa: S608 - ours
    with writing(db) as connection:
        return [(rate, reason) for rate, reason in connection.execute(text(statement))]


def test_tiny_reward(db: Engine, database_url: str) -> None:
    """A reward whose square PostgreSQL can't represent breaks neither counting nor a report."""
    simulated = SimulatedUsers(db, 12)
    simulated.act(80)
    decision_id, command = next(iter(simulated.decisions.items()))
    for reward in (5e-324, -1e-200, None, 1e-31):
        with writing(db) as connection:
            [outcome] = correct(
                connection, [CorrectCommand(command.user_id, decision_id, reward, simulated.draw_time())]
            )
        assert not isinstance(outcome, OoMlError)
        for view in VIEWS:
            with writing(db) as connection:
                connection.execute(text(f"SELECT * FROM analytics.{view}")).all()  # noqa: S608 - names of ours
        assert_right(db)
    count_all(db, database_url)
    assert_right(db)


def assert_right(db: Engine) -> None:
    """Compare both views with numpy."""
    with writing(db) as connection:
        seen, rates, by_day = (
            [dict(row) for row in connection.execute(text(statement)).mappings()]
            for statement in (
                "SELECT *, CAST(decided_at AT TIME ZONE 'UTC' AS date) AS day FROM oo_ml.feature_history",
                "SELECT NULL AS day, * FROM analytics.reaction_rates",
                "SELECT * FROM analytics.reaction_rates_by_day",
            )
        )
    assert len({one["exploring"] for one in seen}) == len({one["policy"] for one in seen}) == 2
    for found, is_by_day in ((rates, False), (by_day, True)):
        groups = group_decisions(seen, is_by_day=is_by_day)
        expected = {key: compute_naively(group) for key, group in groups.items()}
        reasons = {key: explain_naively(groups, key) for key in groups}
        assert {get_key(row) for row in found} == expected.keys()
        assert len(found) == len(expected)
        for row in found:
            reason = reasons[get_key(row)]
            assert row["unknown_because"] == reason
            numbers = expected[get_key(row)]
            if reason is not None:
                numbers = {name: None if is_weighted(name) else number for name, number in numbers.items()}
            assert_same(row, numbers)


def assert_same(row: Row, expected: Mapping[str, Any]) -> None:
    """Compare the numbers of a row; a missing number must be null."""
    known = {name: number for name, number in expected.items() if number is not None}
    assert {name for name in expected if row[name] is not None} == known.keys(), get_key(row)
    # A margin of 0 is the root of a rounding error.
    assert {name: row[name] for name in known} == pytest.approx(known, rel=1e-9, abs=1e-7), get_key(row)


def get_key(row: Row) -> tuple[Any, ...]:
    """Return the day, grouping, version and policy of a row of a view."""
    return row["day"], row["grouped_by"], row["prompt_version"], row["policy"]


def group_decisions(seen: Iterable[Row], *, is_by_day: bool) -> dict[tuple[Any, ...], list[Row]]:
    """Group the decisions by the row of the view that they belong to."""
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for one in seen:
        day, version, policy = one["day"] if is_by_day else None, one["prompt_version"], one["policy"]
        for key in (("both", version, policy), ("prompt_version", version, None), ("policy", None, policy)):
            found[day, *key].append(one)
        found[day, "all", None, None].append(one)
    return found


def get_reaction(one: Row) -> str | None:
    """Return the name of a reaction, None without a reaction."""
    if one["reward"] is None or one["reward_kind"] == "default":
        return None
    return NAMES.get(one["reward"], "other")


def is_weighted(name: str) -> bool:
    """Return whether a column is a weighted number."""
    return "weighted" in name or name == "effective_sample_size"


def explain_naively(groups: Mapping[tuple[Any, ...], list[Row]], key: tuple[Any, ...]) -> str | None:
    """Return the reason why the weighted numbers of a row are unknown: its own decisions, or those of all versions."""
    day, grouped_by, _, policy = key
    if grouped_by == "policy":
        return "by policy, all weighted numbers estimate drawing at random: see analytics.policy_values"
    alternatives = groups[(day, "all", None, None) if grouped_by != "both" else (day, "policy", None, policy)]
    for group in (groups[key], alternatives):
        has_choices = sum(len(one["propensities"]) > 1 for one in group) > 0.05 * len(group)
        drawn = sum(one["exploring"] for one in group)
        if has_choices and drawn == 0:
            return "nothing was drawn at random"
        if sum(min(one["propensities"]) < 1e-12 for one in group) > 0.05 * len(group):
            return "in more than 5 % of the decisions some candidate had no chance"
        if has_choices and drawn < 10:
            return "fewer than 10 tips were drawn at random"
    return None


def compute_naively(group: list[Row]) -> dict[str, Any]:
    """Compute all numbers of a row with numpy."""
    w = np.array([1 / (one["propensity"] * (one["prompt_probability"] or 1)) for one in group])
    size = w.sum() ** 2 / (w**2).sum()
    reactions = [get_reaction(one) for one in group]
    user_groups = [find_group(one["user_id"]) for one in group]
    unsupported = sum(min(one["propensities"]) < 1e-12 for one in group)
    numbers: dict[str, Any] = {"shown": len(group), "effective_sample_size": size, "unsupported": unsupported}
    for name in REACTIONS:
        is_so = np.array([one is not None if name == "reacted" else one == name for one in reactions])
        numbers[name] = int(is_so.sum())
        weighted = (w * is_so).sum() / w.sum()
        for part, rate, e, n in (
            ("", is_so.mean(), (is_so - is_so.mean()) / len(group), len(group)),
            ("_weighted", weighted, w * (is_so - weighted) / w.sum(), size),
        ):
            numbers[f"{name}{part}_rate"] = rate
            numbers[f"{name}{part}_low"], numbers[f"{name}{part}_high"] = compute_wilson(rate, e, user_groups, n)
    has_reward = np.array([one["reward"] is not None for one in group])
    r, w = np.array([one["reward"] for one in group if one["reward"] is not None]), w[has_reward]
    numbers["rewarded"] = n = len(r)
    user_groups = [one for one, is_rewarded in zip(user_groups, has_reward, strict=True) if is_rewarded]
    mean, weighted = (r.mean(), (w * r).sum() / w.sum()) if n else (None, None)
    for name, value, e in (
        ("mean_reward", mean, (r - mean) / n if n else r),
        ("weighted_mean_reward", weighted, w * (r - weighted) / w.sum() if n else r),
    ):
        numbers |= build_interval(name, value, e, user_groups)
    return numbers
