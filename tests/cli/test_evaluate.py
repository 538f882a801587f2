"""`oo-ml evaluate`."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.commands import Done, oo_ml
from tests.policies import DIMENSIONS
from tests.services.policies.readers import NEWS, Readers, define, publish_policy
from tests.sessions import writing
from tests.simulated_users import CERTAIN, EXPLORING, NOON, SimulatedUsers

# Where it is noon five hours later.
PATIENT: dict[str, Any] = {
    "TZ": "America/New_York",
    "OO_ML_DATABASE_CONNECT_TIMEOUT": 20,
    "OO_ML_REQUEST_TIMEOUT": 30,
    "OO_ML_STATEMENT_TIMEOUT": 30,
}
CSV = "action,reward,propensity,p_target\na,1,0.5,0.25\nb,0,0.5,0.75\nb,1,0.25,0.5\n"
MODELLED = "action,reward,propensity,p_target,q_logged,q_target\na,1,0.5,0.25,0.5,0.25\nb,0,0.5,0.75,0,0.5\n"
DETERMINISTIC = (
    "Cannot evaluate the target: every propensity in the log is 1, so the log says nothing about other choices. The"
    " decisions of this service are random if OO_ML_EXPLORATION and OO_ML_EPSILON are above 0"
)
MOOD = {"name": "mood", "of": "context", "encoding": "boolean"}
ESTIMATE = {"estimate", "variance", "low", "high"}


def evaluate(database_url: str, *words: str) -> Done:
    """Run the command on a database."""
    return oo_ml("evaluate", *words, OO_ML_DATABASE_URL=database_url, **PATIENT)


@pytest.fixture
def simulated(db: Engine) -> SimulatedUsers:
    """Forty decisions by each policy. The second half was drawn at random, a day later; two are open."""
    users = SimulatedUsers(db, 1)
    for policy in DIMENSIONS:
        for number in range(40):
            parameters, days = (CERTAIN, 0) if number < 20 else (EXPLORING, 1)
            at = NOON + timedelta(days=days, seconds=number)
            users.react(users.decide(policy=policy, ids=["a", "b"], parameters=parameters, at=at))
        users.decide(policy=policy, at=NOON + timedelta(days=2))
    return users


@pytest.mark.usefixtures("simulated")
def test_table(database_url: str) -> None:
    """Without --json a table, quality figures and a sentence are printed; progress goes to standard error."""
    done = evaluate(
        database_url,
        "--target",
        "linucb exploration=0.3 alpha=0.7",
        "--policy",
        "linucb-v1",
        "--since",
        "2026-11-24T12:00",
    )
    assert done.code == 0, done.err
    assert done.err == "Evaluating: 2 of 2\n"
    lines = done.out.splitlines()
    assert [line.split("\t")[0] for line in lines[:-5]] == [
        "reward a decision",
        "observed, by the log's own policy",
        "DR",
        "DR less observed",
        "SNIPS",
        "IPS",
    ]
    # One user has no interval.
    assert {line.split("\t")[-1] for line in lines[1:6]} == {""}
    assert "decisions 20 (without a reward 1, left out 0), users 1, effective sample size 20.0" in lines
    assert "largest weight 1, mean weight 1, share without support 0.00%" in lines
    assert lines[-3:] == [
        "Doubtful: the log does not show reliably what linucb alpha=0.7 exploration=0.3 would have earned",
        "- the effective sample size is 20.0, below 100: chance may explain the result",
        "- the log has 1 user, fewer than 20: the result may be theirs alone",
    ]


@pytest.mark.usefixtures("simulated")
def test_json(database_url: str) -> None:
    """--json prints the estimates and the quality figures as one object."""
    done = evaluate(database_url, "--target", "uniform", "--since", "2026-11-24T13:00+01:00", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    estimates = {"observed", "ips", "snips", "dr", "gain"}
    assert found.keys() == estimates | {
        "n",
        "users",
        "unrewarded",
        "left_out",
        "unreadable",
        "priorless",
        "unlearned",
        "ess",
        "max_weight",
        "mean_weight",
        "share_without_support",
        "largest_share",
        "doubtful",
        "doubts",
    }
    assert found["doubtful"] is True
    assert {
        "kind": "small_sample",
        "reason": f"the effective sample size is {found['ess']:.1f}, below 100: chance may explain the result",
    } in found["doubts"]
    assert all(found[name].keys() == ESTIMATE for name in estimates)
    assert (found["n"], found["unrewarded"], found["left_out"], found["share_without_support"]) == (40, 2, 0, 0)
    assert (found["users"], found["dr"]["low"], found["dr"]["high"]) == (1, None, None)
    assert (found["unreadable"], found["priorless"], found["unlearned"]) == ({}, 0, 0)


def test_published_policy(database_url: str, db: Engine) -> None:
    """Any published policy is a target, and its log a log; what its state and the result leave out is said."""
    readers = Readers(db, publish_policy(db, "news-v1"))
    for number in range(8):
        readers.react(readers.decide("ada", mood=True) if number % 2 else readers.decide("ada"))
    publish_policy(
        db, "mood-v1", define(inputs=[*NEWS["inputs"], MOOD], terms=[{"product": ["topic", "mood"]}, *NEWS["terms"]])
    )
    done = evaluate(database_url, "--target", "mood-v1", "--policy", "news-v1")
    assert (done.code, done.err) == (0, "Evaluating: 1 of 1\n")
    lines = done.out.splitlines()
    assert "decisions 4 (without a reward 0, left out 4), users 1, effective sample size" in done.out
    assert "Left out without a valid field that mood-v1 needs: context.mood 4" in lines
    assert "The state of mood-v1 leaves out 4 ledger entries, for which no raw fields are known" in lines
    own = json.loads(evaluate(database_url, "--target", "news-v1", "--json").out)
    assert (own["n"], own["max_weight"], own["unlearned"]) == (8, 1, 0)
    for words, sentence in (
        (["--target", "news-v2"], "Unknown target: news-v2; use uniform, "),
        (
            ["--target", "greedy", "--policy", "news-v2"],
            "Unknown policy: news-v2; `oo-ml policies list` shows those published",
        ),
    ):
        refused = evaluate(database_url, *words)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith(f"error: {sentence}")


@pytest.mark.usefixtures("simulated")
def test_unsupported_target(database_url: str) -> None:
    """A target that the log does not support is one line with advice and exit code 1; with --json an object too."""
    done = evaluate(database_url, "--target", "uniform", "--policy", "linucb-v1")
    sentence = (
        "Cannot evaluate uniform: 25.0% of the tips it would show had propensity 0 in the log. Set OO_ML_EXPLORATION"
        " (linucb-v1) above 0 and wait for new decisions; leave out older, deterministic decisions with --since"
    )
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines() == ["Evaluating: 2 of 2", f"error: {sentence}"]
    as_json = evaluate(database_url, "--target", "uniform", "--policy", "linucb-v1", "--json")
    assert (as_json.code, json.loads(as_json.out), as_json.err) == (1, {"refused": sentence}, done.err)


def test_empty_log(database_url: str) -> None:
    """A log without decisions is refused."""
    done = evaluate(database_url, "--target", "greedy", "--json")
    sentence = "The log holds no decision to evaluate"
    assert done == Done(1, f'{{"refused": "{sentence}"}}\n', f"error: {sentence}\n")


def test_log_that_contradicts_itself(database_url: str, db: Engine, simulated: SimulatedUsers) -> None:
    """A log that contradicts its ledger is an error; --json prints an object for refusals only."""
    with writing(db) as connection:
        connection.execute(text("DELETE FROM oo_ml.reward_ledger WHERE version = 7"))
    del simulated
    done = evaluate(database_url, "--target", "greedy", "--json")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ada: egreedy-v1, ")
    assert done.err.endswith("; run `oo-ml verify` to find the difference\n")


def test_database_without_migrations(empty_database_url: str) -> None:
    """The error says what to do."""
    done = evaluate(empty_database_url, "--target", "uniform")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: The database has not been migrated")


def test_log_from_a_csv_file(tmp_path: Path) -> None:
    """--csv reads a file or standard input and needs no database; the target is the policy that p_target belongs to."""
    file = tmp_path / "log.csv"
    file.write_text(CSV)
    done = oo_ml("evaluate", "--csv", str(file), "--json")
    assert done == oo_ml("evaluate", "--csv", "-", "--json", stdin=CSV)
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert (found["n"], found["max_weight"], found["share_without_support"], found["dr"]) == (3, 2.0, None, None)
    # Weights are 1/2, 3/2 and 2.
    assert found["ess"] == pytest.approx(16 / 6.5)
    assert found["ips"]["estimate"] == pytest.approx(2.5 / 3)
    assert found["snips"]["estimate"] == pytest.approx(2.5 / 4)
    assert found["users"] is None
    shown = oo_ml("evaluate", "--csv", str(file))
    assert "users unknown" in shown.out
    assert "Each row counts as a user of its own" in shown.out
    named = oo_ml("evaluate", "--csv", "-", stdin=CSV.replace("action", "user"))
    assert "line 1: missing column action" in named.err
    named = oo_ml(
        "evaluate", "--csv", "-", stdin="".join(f"{line},ada\n" for line in CSV.split()).replace("ada", "user", 1)
    )
    assert "users 1," in named.out
    assert "Each row counts" not in named.out
    assert "share without support unknown" in shown.out
    assert "SNIPS less observed" in shown.out
    modelled = json.loads(oo_ml("evaluate", "--csv", "-", "--json", stdin=MODELLED).out)
    # Of a it says 1/4 + 1/2 x (1 - 1/2), and of b what was expected.
    assert modelled["dr"]["estimate"] == pytest.approx(0.5)
    assert modelled["dr"].keys() == ESTIMATE


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("a,1,0.5,0.9\nb,0,0.5,0.1\n", "the target would have earned 0.9000 a decision, more than the 0.5000 of the"),
        ("a,0,0.5,0.9\nb,1,0.5,0.1\n", "the target would have earned 0.1000 a decision, less than the 0.5000 of the"),
        ("a,0,0.5,0.9\nb,0,0.5,0.1\n", "the target would have earned 0.0000 a decision; the log can't tell that from"),
    ],
)
def test_reliable_result(lines: str, sentence: str) -> None:
    """A result without doubts is one sentence, and says whether the difference to the log's own policy is real."""
    header = CSV.splitlines()[0]
    shown = oo_ml("evaluate", "--csv", "-", stdin=f"{header}\n{lines * 200}")
    assert shown.out.splitlines()[-1].startswith(sentence)
    assert "Doubtful" not in shown.out
    found = json.loads(oo_ml("evaluate", "--csv", "-", "--json", stdin=f"{header}\n{lines * 200}").out)
    assert (found["doubtful"], found["doubts"], found["largest_share"]) == (False, [], pytest.approx(1.8 / 400))


def test_doubtful_result() -> None:
    """A doubtful result is no sentence about the target, but a list of reasons; the exit code is 0."""
    header = CSV.splitlines()[0]
    doubtful = oo_ml("evaluate", "--csv", "-", stdin=f"{header}\n" + "a,1,0.9,1\nb,0,0.9,0\n" * 100)
    assert doubtful.code == 0
    assert "would have earned 1" not in doubtful.out
    head, *reasons = doubtful.out.splitlines()[-3:]
    assert head == "Doubtful: the log does not show reliably what the target would have earned"
    assert [reason.split(" and ")[0] for reason in reasons] == [
        "- the 95 % intervals of SNIPS",
        "- the mean weight is 0.5556",
    ]
    one = json.loads(oo_ml("evaluate", "--csv", "-", "--json", stdin=f"{header}\na,1,0.9,1\n").out)
    assert (one["ips"]["low"], one["doubtful"]) == (None, True)


@pytest.mark.parametrize(
    ("csv", "sentence", "is_refused"),
    [
        (CSV.replace("0.25", "x"), "line 2, p_target: not a number", False),
        (CSV[:3], "line 1: missing column action, reward, propensity, p_target", False),
        (CSV.splitlines()[0], "The log holds no decision to evaluate: it has no rows after the header", True),
        (
            CSV.replace("0.5,", "1,").replace("0.25,0", "1,0"),
            DETERMINISTIC,
            True,
        ),
    ],
)
def test_useless_csv_files(csv: str, sentence: str, is_refused: bool) -> None:
    """A file that cannot be read or evaluated is one line; with --json a refusal is an object too."""
    done = oo_ml("evaluate", "--csv", "-", "--json", stdin=csv)
    assert (done.code, done.err) == (1, f"error: {sentence}\n")
    assert done.out == (json.dumps({"refused": sentence}) + "\n" if is_refused else "")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "either --target"),
        (["--since", "2026-11-23"], "either --target"),
        (["--csv", "-", "--target", "uniform"], "either --target"),
        (["--csv", "-", "--since", "2026-11-23"], "either --target"),
        (["--csv", "-", "--until", "2026-11-23"], "either --target"),
        (["--csv", "-", "--policy", "linucb-v1"], "either --target"),
        (["--target", "uniform", "--since", "2026-11-23", "--until", "2026-11-22"], "--since must be before --until"),
        (["--target", "uniform", "--until", "tomorrow"], "must be a date or time in ISO 8601"),
        (["--csv", "/nonexistent"], "No such file"),
        (["--target", "the best"], "unknown target 'the best'; use uniform, always-first, greedy"),
        (["--target", "linucb alpha=-1"], "unknown target 'linucb alpha=-1'"),
        (["--target", "uniform", "--policy", "u cb"], "must be 1 to 100 letters"),
        (["--target", "uniform", "--since", "yesterday"], "must be a date or time in ISO 8601"),
        (["--target", "uniform", "--since", "0001-01-01T00:00+01:00"], "must be a date or time in ISO 8601"),
    ],
)
def test_invalid_options(words: list[str], reason: str) -> None:
    """Invalid options are refused with exit code 2, before any connection."""
    done = oo_ml("evaluate", *words, OO_ML_DATABASE_URL="postgresql://u@127.0.0.1:1/d")
    assert (done.code, done.out) == (2, "")
    assert reason in done.err
