"""Priors in a running service: fitted by its upkeep, and used by its decisions."""

import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.conftest import Serve
from tests.gates import scalar
from tests.scraping import scrape
from tests.services.policies.learners import NAME, Learners
from tests.services.upkeep.months import run
from tests.serving import Service
from tests.waiting import until

QUICK: dict[str, Any] = {"upkeep_interval": 0.1, "policy_max_age": 0.1, "metrics_max_age": 0.1}
LAST = "SELECT max(version) FROM oo_ml.policy_priors"


def decide(service: Service) -> str:
    """Let a new user decide; return the id of the decision."""
    candidates = [{"id": name, "features": {"a": a, "b": 0.5}} for name, a in (("t1", 0.1), ("t2", 0.9))]
    body = {"user_id": "new", "context": {}, "candidates": candidates}
    answer = service.client.post(f"/policies/{NAME}/score", json=body)
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["decision_id"]
    return found


def test_new_prior_is_used(serve: Serve, db: Engine) -> None:
    """Upkeep fits a prior once it is due, and decisions of every service start from it soon after."""
    learners = Learners(db)
    fitting, deciding = serve(**QUICK), serve(upkeep_interval=0, policy_max_age=0.1)
    version = "SELECT prior_version FROM oo_ml.feature_history WHERE decision_id = CAST(:decision_id AS uuid)"
    assert scalar(db, version, decision_id=decide(deciding)) == 0
    learners.teach(10, 5, at=datetime.now(UTC))
    until(lambda: scalar(db, version, decision_id=decide(deciding)) == 1)
    # A tenth more.
    learners.teach(5, 1, at=datetime.now(UTC))
    until(lambda: scalar(db, version, decision_id=decide(fitting)) == 2)
    fitted = scrape(fitting.client).value("oo_ml_prior_fitted_timestamp_seconds", policy=NAME)
    assert fitted is not None


def test_failed_fit(serve: Serve, db: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A fit that fails is logged as an error once, and counted as a failure of every run."""
    learners = Learners(db)
    learners.teach(10, 5, at=datetime.now(UTC))
    run(db, "UPDATE oo_ml.policy_state SET b = '{1e308,1e308,1e308}' WHERE user_id = 'user 3'")
    service = serve(**QUICK)
    until(lambda: (scrape(service.client).value("oo_ml_upkeep_failures_total") or 0) > 2)
    said = [one for one in caplog.records if "upkeep (priors)" in one.message]
    assert [one.levelno for one in said] == [logging.ERROR]
    assert f"The prior of {NAME} could not be fitted, and stays as it is" in said[0].message
    assert scalar(db, LAST) is None
