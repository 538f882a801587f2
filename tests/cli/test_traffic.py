"""`oo-ml policies traffic`."""

import json

import pytest
from sqlalchemy import Engine

from tests.commands import oo_ml
from tests.gates import scalar


def test_traffic(database_url: str, db: Engine) -> None:
    """Shares are set, shown with what came of them, and audited; an existing client gets another policy."""

    def traffic(*words: str) -> str:
        done = oo_ml("policies", "traffic", *words, OO_ML_DATABASE_URL=database_url)
        assert (done.code, done.err) == (0, ""), done
        return done.out

    assert traffic() == "# no traffic is set: linucb-v1 decides for all users\n"
    shown = traffic("linucb-v1=0.95", "uniform-v1=0.05")
    assert "by (command line)" in shown.splitlines()[0]
    assert [line.split() for line in shown.splitlines()[-2:]] == [
        ["linucb-v1", "95.0%", "0", "0"],
        ["uniform-v1", "5.0%", "0", "0"],
    ]
    traffic("linucb-v1=1")
    found = json.loads(traffic("--json"))
    assert [one["shares"] for one in found["changes"]] == [{"linucb-v1": 1}, {"linucb-v1": 0.95, "uniform-v1": 0.05}]
    assert found["last_day"] == {}
    assert scalar(db, "SELECT count(*) FROM oo_ml.audit_log WHERE action = 'traffic.changed'") == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["linucb-v1=0.5"], 1, "error: The shares must each be above 0 and sum to 1; their sum is 0.5\n"),
        (["none-v1=1"], 1, "error: Unknown policy: none-v1\n"),
        (["linucb-v1"], 2, "must be POLICY=SHARE"),
        (["linucb-v1=x"], 2, "must be POLICY=SHARE"),
        (["linucb-v1=0.5", "linucb-v1=0.5"], 2, "must be POLICY=SHARE"),
        (["=1"], 2, "must be POLICY=SHARE"),
    ],
)
def test_refusals(database_url: str, words: list[str], code: int, message: str) -> None:
    """Wrong shares are refused with what is wrong, and nothing is set."""
    done = oo_ml("policies", "traffic", *words, OO_ML_DATABASE_URL=database_url)
    assert done.code == code
    assert message in " ".join(done.err.replace("│", " ").split()) + "\n" or message in done.err
    shown = oo_ml("policies", "traffic", OO_ML_DATABASE_URL=database_url)
    assert shown.out.startswith("# no traffic is set")
