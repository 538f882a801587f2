"""Evaluation of a CSV file: the estimates against plain numpy, and the error messages."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oo_ml.errors import EvaluationRefusedError, LogFileError, NothingToEvaluateError
from oo_ml.services.evaluation.from_file import evaluate_file
from oo_ml.services.evaluation.results import Evaluation

HEADER = "action,reward,propensity,p_target"
MODELLED = f"{HEADER},q_logged,q_target"


def evaluate_content(text: str | bytes) -> Evaluation:
    """Evaluate a file with this content."""
    return evaluate_file(io.BytesIO(text if isinstance(text, bytes) else text.encode()))


@given(st.integers(0, 2**32), st.integers(2, 50), st.booleans())
def test_estimates_against_numpy(seed: int, n: int, modelled: bool) -> None:
    """Every estimate equals its formula in plain numpy, whatever the order of columns and with extra columns."""
    rng = np.random.default_rng(seed)
    columns = {
        "p_target": rng.random(n),
        "note": rng.random(n),
        "reward": rng.normal(size=n),
        "propensity": rng.uniform(0.05, 1, n),
        "action": rng.integers(0, 3, n),
    }
    if modelled:
        columns |= {"q_target": rng.normal(size=n), "q_logged": rng.normal(size=n)}
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([columns, *zip(*(column.tolist() for column in columns.values()), strict=True)])
    evaluation = evaluate_content(text.getvalue())
    r = columns["reward"]
    w = columns["p_target"] / columns["propensity"]
    s = (w * r).sum() / w.sum()
    assert evaluation.n == n
    assert evaluation.max_weight == w.max()
    assert (evaluation.mean_weight, evaluation.ess) == pytest.approx((w.mean(), w.sum() ** 2 / (w**2).sum()), rel=1e-9)
    assert evaluation.observed.estimate == pytest.approx(r.mean(), rel=1e-9, abs=1e-12)
    assert evaluation.ips.estimate == pytest.approx((w * r).mean(), rel=1e-9, abs=1e-12)
    assert evaluation.ips.variance == pytest.approx((w * r).var(ddof=1) / n, rel=1e-9)
    assert evaluation.snips.estimate == pytest.approx(s, rel=1e-9, abs=1e-12)
    assert evaluation.snips.variance == pytest.approx((w * (r - s)).var(ddof=1) / w.mean() ** 2 / n, rel=1e-9)
    assert (evaluation.dr is None) != modelled
    if evaluation.dr is not None:
        d = columns["q_target"] + w * (r - columns["q_logged"])
        assert evaluation.dr.estimate == pytest.approx(d.mean(), rel=1e-9, abs=1e-12)
        assert evaluation.dr.variance == pytest.approx(d.var(ddof=1) / n, rel=1e-9)
    assert evaluation.share_without_support is None
    assert (evaluation.unrewarded, evaluation.left_out) == (0, 0)
    # Without the column each row counts as a user of its own.
    assert evaluation.users is None


def test_column_of_users() -> None:
    """With the column user the variance comes from users' totals; a user's rows lie anywhere in the file."""
    rng = np.random.default_rng(1)
    n = 12_000
    users, rewards = rng.integers(0, 50, n), rng.integers(0, 2, n)
    lines = [f'"user, {user}",{reward},0.5,0.5,a' for user, reward in zip(users, rewards, strict=True)]
    content = "\n".join(["user,reward,propensity,p_target,action", *lines])
    evaluation = evaluate_content(content)
    totals = np.bincount(users, rewards - rewards.mean())
    assert (evaluation.n, evaluation.users) == (n, 50)
    assert evaluation.observed.variance == pytest.approx(50 / 49 * (totals**2).sum() / n**2, rel=1e-9)
    unnamed = evaluate_content(content.replace("user,reward", "who,reward"))
    assert unnamed.users is None
    assert unnamed.observed.variance == pytest.approx(rewards.var(ddof=1) / n, rel=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\na,1,0.5,1\nb,0,0.5,0\n",
        f"\ufeff{HEADER}\r\na,1,0.5,1\r\n\r\nb,0,0.5,0",
        f'{HEADER}\n"a, \n quoted ""one""",1,.5,1\nb,0, 5e-1 ,0\n\n',
        " action, reward ,propensity,p_target\nä,1.0,0.5,1\n,0,0.5,0\n",
    ],
)
def test_accepted_csv_dialects(text: str) -> None:
    """A byte order mark, CRLF, empty lines, quotes and spaces around numbers are accepted."""
    evaluation = evaluate_content(text)
    assert (evaluation.n, evaluation.ips.estimate, evaluation.snips.estimate, evaluation.ess) == (2, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: missing column action, reward, propensity, p_target"),
        ("\n", "line 1: missing column action, reward, propensity, p_target"),
        ("a,1,0.5,1\n", "line 1: missing column action, reward, propensity, p_target"),
        ("action,reward,p_target\n", "line 1: missing column propensity"),
        (f"{HEADER},q_target\n", "line 1: missing column q_logged"),
        (f"{HEADER},reward\n", "line 1: column reward more than once"),
        (f"{HEADER}\na,1,0.5,1\n\na,1,0.5\n", "line 4: 3 values, but line 1 names 4 columns"),
        (f"{HEADER}\na,1,0.5,1,2\n", "line 2: 5 values, but line 1 names 4 columns"),
        (f"{HEADER}\na,one,0.5,1\n", "line 2, reward: not a number"),
        (f"{HEADER}\na,,0.5,1\n", "line 2, reward: not a number"),
        (f'{HEADER}\n"a\nb",1,"0,5",1\n', "line 3, propensity: not a number"),
        (f"{HEADER}\na,1_0,0.5,1\n", "line 2, reward: not a number"),
        (f"{HEADER}\na,nan,0.5,1\n", "line 2, reward: must be a number from -1e+50 to 1e+50"),
        (f"{HEADER}\na,-inf,0.5,1\n", "line 2, reward: must be a number from -1e+50 to 1e+50"),
        (f"{HEADER}\na,1,0,1\n", "line 2, propensity: must be above 0 (1e-50) and at most 1"),
        (f"{HEADER}\na,1,-0.1,1\n", "line 2, propensity: must be above 0 (1e-50) and at most 1"),
        (f"{HEADER}\na,1,1e-300,1\n", "line 2, propensity: must be above 0 (1e-50) and at most 1"),
        (f"{HEADER}\na,1,1.01,1\n", "line 2, propensity: must be above 0 (1e-50) and at most 1"),
        (f"{HEADER}\na,1,nan,1\n", "line 2, propensity: must be above 0 (1e-50) and at most 1"),
        (f"{HEADER}\na,1,0.5,-0.01\n", "line 2, p_target: must be from 0 to 1"),
        (f"{HEADER}\na,1,0.5,1.01\n", "line 2, p_target: must be from 0 to 1"),
        (f"{HEADER}\na,1,0.5,nan\n", "line 2, p_target: must be from 0 to 1"),
        (f"{MODELLED}\na,1,0.5,1,inf,0\n", "line 2, q_logged: must be a number from -1e+50 to 1e+50"),
        (f"{MODELLED}\na,1,0.5,1,0,\n", "line 2, q_target: not a number"),
        (f"{HEADER}\n" + "a,1,0.5,1\n" * 5000 + "a,1,0.5,2\n", "line 5002, p_target: must be from 0 to 1"),
        (f"user,{HEADER}\nada,a,1,0.5,1\n,a,1,0.5,1\n", "line 3, user: empty"),
        (f"user,{HEADER},user\n", "line 1: column user more than once"),
        (f'{HEADER}\n"a,1,0.5,1\n', "line 2: not valid CSV: unexpected end of data"),
        (f'{HEADER}\n"{"a" * 200_000}",1,0.5,1\n', "line 2: not valid CSV: field larger than field limit (131072)"),
        (f"{HEADER}\nä,1,0.5,1\n".encode("latin-1"), "The file is not UTF-8"),
        (HEADER.encode("utf-16"), "The file is not UTF-8"),
    ],
)
def test_invalid_csv(text: str | bytes, sentence: str) -> None:
    """An invalid file is refused with the line and column of the error."""
    with pytest.raises(LogFileError) as refused:
        evaluate_content(text)
    assert refused.value.message == sentence


def test_read_error() -> None:
    """A failing read is reported as an error of the log, with the reason of the operating system."""

    class Failing(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:  # noqa: ARG002
            raise OSError(5, "Input/output error")

    with pytest.raises(LogFileError, match="Reading the log failed: Input/output error"):
        evaluate_file(Failing(b"a"))


def test_file_without_rows() -> None:
    """A header alone, or followed by empty lines, leaves nothing to evaluate."""
    for text in (HEADER, f"{MODELLED}\n\n\n"):
        with pytest.raises(NothingToEvaluateError, match="it has no rows after the header"):
            evaluate_content(text)


def test_deterministic_log() -> None:
    """If every propensity is 1, only a target that makes the same choices can be evaluated."""
    same = evaluate_content(f"{HEADER}\na,1,1,1\nb,0,1,1\n")
    assert (same.ips.estimate, same.snips.estimate, same.max_weight) == (0.5, 0.5, 1)
    for p_target in ("0.5", "0"):
        with pytest.raises(EvaluationRefusedError, match="every propensity in the log is 1"):
            evaluate_content(f"{HEADER}\nb,0,1,{p_target}\n" + "a,1,1,1\n" * 5000)
    assert evaluate_content(f"{HEADER}\na,1,1,0\nb,0,0.5,1\n").n == 2


def test_target_without_logged_choices() -> None:
    """A target that chooses none of the logged actions is refused, not estimated as 0."""
    with pytest.raises(
        EvaluationRefusedError, match=r"it would choose none of the tips that the log's policy chose \(decisions 2\)"
    ):
        evaluate_content(f"{HEADER}\na,1,0.5,0\nb,0,0.5,0\n")


def test_source_stays_open(tmp_path: Path) -> None:
    """The caller's file is not closed."""
    file = tmp_path / "log.csv"
    file.write_text(f"{HEADER}\na,1,0.5,1\nb,1,0.5,1\n")
    with file.open("rb") as source:
        evaluate_file(source)
        assert not source.closed
