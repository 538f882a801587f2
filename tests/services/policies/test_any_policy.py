"""A policy of a new kind goes through every part of the service: decisions, learning, audit, evaluation, reports."""

import csv
import io
import json
from typing import Any, Final

import pytest
from pyarrow import parquet
from sqlalchemy import Engine, text

from oo_ml.domain.evaluation.targets import Published, Uniform
from oo_ml.files.decision_log_writers import Format
from oo_ml.files.decision_log_writers import writing as writing_file
from oo_ml.services.analytics.decision_log import Period, walk_decisions
from oo_ml.services.audit.verify import Report, verify
from oo_ml.services.decisions.reset import reset
from oo_ml.services.users.erase import erase
from oo_ml.storage.reports import Filters, read_report
from oo_ml.storage.reports import Report as Analysis
from oo_ml.storage.user_ranges import ALL_USERS
from tests.conftest import make_settings
from tests.services.evaluation.evaluating import look
from tests.services.policies.readers import Readers, define, publish_policy
from tests.services.sample_users import export_user, replay_bytes
from tests.services.upkeep.daily_sums.counting import count_all
from tests.sessions import writing

USERS: Final = ("ada", "ben", "zoë")


@pytest.fixture
def readers(db: Engine) -> Readers:
    """Three readers with twelve rewarded decisions each, an open one, and a reward without a decision."""
    simulated = Readers(db, publish_policy(db, "news-v1"))
    for user_id in USERS:
        simulated.live(user_id)
        simulated.teach(user_id)
    return simulated


def verify_all(db: Engine) -> Report:
    """Verify all users."""
    with writing(db) as connection:
        [report] = verify(connection, [ALL_USERS])
    return report


def test_decisions(db: Engine, readers: Readers) -> None:
    """Decisions store the definition's x, a vote's propensities and the fields as sent."""
    with writing(db) as connection:
        rows = connection.execute(
            text("SELECT x, propensities, propensity, features, exploration, alpha FROM oo_ml.feature_history")
        ).all()
    assert len(rows) == len(readers.decisions)
    assert {len(row.x) for row in rows} == {readers.policy.features.dimension} == {11}
    assert {(row.exploration, row.alpha) for row in rows} == {(0.02, 1.0)}
    assert all(row.propensities.sum() == pytest.approx(1) and min(row.propensities) >= 0.004 for row in rows)
    assert all({"topic", "words"} <= row.features.keys() for row in rows)
    # The vote has more than one winner.
    assert any(0.1 < row.propensity < 0.9 for row in rows)


def test_verify_after_reset(db: Engine, readers: Readers) -> None:
    """Decisions, rewards, corrections and a reset verify without a difference."""
    assert verify_all(db).difference is None
    with writing(db) as connection:
        reset(connection, ["ada"])
    readers.live("ada", 3)
    report = verify_all(db)
    assert (report.difference, report.users, report.decisions) == (None, 3, len(readers.decisions))


def test_export_and_replay(db: Engine, readers: Readers) -> None:
    """A user is exported, erased, and replayed equal to the last bit."""
    before = export_user(db, "ada")
    with writing(db) as connection:
        [erased] = erase(connection, ["ada"])
    assert erased["feature_history"] == 13
    assert verify_all(db).users == len(USERS) - 1
    assert not replay_bytes(db, before).unchanged
    assert replay_bytes(db, before).unchanged
    assert verify_all(db).difference is None
    assert readers.policy.name in before.decode()


def test_log_and_target(db: Engine, readers: Readers) -> None:
    """The log of the policy can be evaluated; for the policy itself as target every weight is 1."""
    uniform = look(db, Uniform())
    assert (uniform.n, uniform.left_out, uniform.max_weight > 1) == (30, 0, True)
    own = look(db, Published(readers.policy.name))
    assert (own.n, own.max_weight, own.mean_weight, own.unlearned) == (30, 1.0, 1.0, 0)
    assert look(db, Published("uniform-v1")).ips == uniform.ips


def test_log_export(db: Engine, readers: Readers) -> None:
    """CSV, JSON Lines and Parquet hold the fields of every candidate as sent."""
    pages = list(walk_decisions(db, make_settings(), Period(None, None)).pages)
    files: dict[Format, bytes] = {}
    for format_ in Format:
        sink = io.BytesIO()
        with writing_file(format_, sink) as write:
            for page in pages:
                write(page)
        files[format_] = sink.getvalue()
    lines = [json.loads(line) for line in files[Format.JSONL].splitlines()]
    cells = list(csv.DictReader(io.StringIO(files[Format.CSV].decode(), newline="")))
    arrow = parquet.read_table(io.BytesIO(files[Format.PARQUET])).to_pylist()
    assert len(lines) == len(cells) == len(arrow) == len(readers.decisions)

    def fields(row: dict[str, Any]) -> tuple[Any, ...]:
        features = [candidate["features"] for candidate in row["candidates"]]
        return row["context"], row["features"], features, row["x"]

    for line, cell, one in zip(lines, cells, arrow, strict=True):
        assert line["features"]["topic"] in ("news", "sport", "arts")
        parsed = {name: json.loads(cell[name]) for name in ("context", "features", "candidates", "x")}
        assert fields(parsed) == fields(line)
        candidates = [candidate | {"features": json.loads(candidate["features"])} for candidate in one["candidates"]]
        read = {name: json.loads(one[name]) for name in ("context", "features")}
        assert fields(one | read | {"candidates": candidates}) == fields(line)


def test_reports(db: Engine, database_url: str, readers: Readers) -> None:
    """Every report has rows of the policy, before and after its days are summed, and its numbers stay the same."""

    def read_all() -> dict[str, Any]:
        with writing(db) as connection:
            return {one: read_report(connection, one, Filters(policy="news-v1")) for one in Analysis}

    before = read_all()
    assert before[Analysis.REACTION_RATES][0]["shown"] == len(readers.decisions)
    assert [row["policy"] for row in before[Analysis.POLICY_VALUES]] == ["news-v1"]
    assert before[Analysis.LEARNING_CURVE]
    assert before[Analysis.REWARDS_BY_DAY]
    checks = {row["check_name"]: row["status"] for row in before[Analysis.LOOP_HEALTH] if row["policy"] == "news-v1"}
    assert checks == dict.fromkeys(("explored_share", "unsupported_share", "propensity_calibration"), "green")
    count_all(db, database_url)
    after = read_all()
    assert after[Analysis.REACTION_RATES] == before[Analysis.REACTION_RATES]
    assert after[Analysis.LEARNING_CURVE] == before[Analysis.LEARNING_CURVE]


def test_deterministic_policy(db: Engine) -> None:
    """The advice for a policy without exploration is another definition, not a setting."""
    simulated = Readers(db, publish_policy(db, "sure-v1", {**_SURE}))
    for number in range(40):
        simulated.react(simulated.decide(f"user {number % 4}"))
    with writing(db) as connection:
        rows = read_report(connection, Analysis.LOOP_HEALTH, Filters(policy="sure-v1"))
    [reason] = [row["reason"] for row in rows if row["check_name"] == "unsupported_share"]
    assert "publish a policy with rule.exploration above 0; decisions from before" in reason


_SURE: Final = {
    "inputs": [{"name": "topic", "of": "candidate", "encoding": "category", "values": ["news", "sport"]}],
    "terms": [{"input": "topic"}],
    "rule": {"alpha": 0.5},
}


def test_vote_without_uniform_draws(db: Engine) -> None:
    """Thompson sampling draws by votes alone, and loop health is not red for it: its propensities add up."""
    policy = publish_policy(db, "thompson-v1", define(rule={"sigma": 1}))
    readers = Readers(db, policy)
    for number in range(40):
        readers.decide(f"user {number}")
    with writing(db) as connection:
        rows = read_report(connection, Analysis.LOOP_HEALTH, Filters(policy="thompson-v1"))
        drawn = connection.execute(text("SELECT count(*) FROM oo_ml.feature_history WHERE propensity < 1")).scalar_one()
    assert drawn > 10
    checks = {row["check_name"]: row["status"] for row in rows if row["policy"] == "thompson-v1"}
    assert (checks["explored_share"], checks["propensity_calibration"]) == ("green", "green")
