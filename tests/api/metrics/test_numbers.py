"""Metrics that are read from the database: upkeep, partitions, alarms; and scrapes without the database."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from oo_ml.domain.access import Scope
from oo_ml.setting_choices import Auth
from oo_ml.storage.schema.partitions import month_of
from tests import calls
from tests.api.access.conftest import Create, bearer
from tests.commands import oo_ml
from tests.conftest import Serve, make_settings
from tests.faults.proxy import run_proxy
from tests.gates import scalar
from tests.migrations.rows import uuid7
from tests.scraping import Scraped, scrape
from tests.services.upkeep.months import NOW, crowd_month, partition_name
from tests.serving import Service, serving
from tests.superuser import tamper
from tests.waiting import until

LAST_SUCCESS = "oo_ml_upkeep_last_success_timestamp_seconds"
# Each scrape reads anew.
FRESH: dict[str, Any] = {"metrics_max_age": 1e-9}


@pytest.fixture
def service(serve: Serve) -> Service:
    """A service whose scrapes read anew."""
    return serve(epsilon=0, **FRESH)


def alarms(found: Scraped) -> set[str]:
    """Return the alarms that are raised."""
    names = found.labels("oo_ml_alarm", "alarm")
    assert names == {"crowded", "missing", "stray"}
    return {name for name in names if found.value("oo_ml_alarm", alarm=name)}


def test_upkeep_by_another_process(service: Service, service_url: str, db: Engine) -> None:
    """The last success is that of any process, such as `oo-ml upkeep`; rows are not counted until then."""
    service.client.post("/score", json=calls.score())
    service.client.post("/reward", json=calls.reward())
    found = scrape(service.client)
    assert found.value("oo_ml_upkeep_rows_not_counted") == 2
    assert found.value(LAST_SUCCESS) is None
    assert found.value("oo_ml_upkeep_lag_seconds") is None

    def is_counted() -> bool:
        assert oo_ml("upkeep", OO_ML_DATABASE_URL=service_url).code == 0
        return scrape(service.client).value("oo_ml_upkeep_rows_not_counted") == 0

    # Transactions of other tests on this server can delay it.
    until(is_counted)
    found = scrape(service.client)
    ran_at = scalar(db, "SELECT ran_at FROM oo_ml.upkeep WHERE task = 'days'")
    assert isinstance(ran_at, datetime)
    assert found.value(LAST_SUCCESS) == ran_at.timestamp()
    assert found.value("oo_ml_upkeep_rows_not_counted") == 0


def test_upkeep_lag(serve: Serve, admin: Engine) -> None:
    """The lag is that of the task which has waited longest, default rewards included if they are given."""
    tamper(admin, "UPDATE oo_ml.upkeep SET ran_at = now() - interval '1 hour' WHERE task IN ('days', 'priors')")
    with_rewards = serve(**FRESH, reward_wait=60)
    assert scrape(with_rewards.client).value("oo_ml_upkeep_lag_seconds") is None
    tamper(admin, "UPDATE oo_ml.upkeep SET ran_at = now() - interval '2 hours' WHERE task = 'default-rewards'")
    lags = [scrape(one.client).value("oo_ml_upkeep_lag_seconds") for one in (serve(**FRESH), with_rewards)]
    assert [int((lag or 0) // 3600) for lag in lags] == [1, 2]


def test_lag_of_priors(serve: Serve, admin: Engine) -> None:
    """If fits of priors hang, so that no run of theirs ends, the lag grows."""
    tamper(admin, "UPDATE oo_ml.upkeep SET ran_at = now() WHERE task = 'days'")
    client = serve(**FRESH).client
    assert scrape(client).value("oo_ml_upkeep_lag_seconds") is None
    tamper(admin, "UPDATE oo_ml.upkeep SET ran_at = now() - interval '2 hours' WHERE task = 'priors'")
    assert int((scrape(client).value("oo_ml_upkeep_lag_seconds") or 0) // 3600) == 2


def test_upkeep_failures(serve: Serve, admin: Engine) -> None:
    """A run of upkeep in the service that fails is counted, each time."""
    tamper(admin, f"DROP TABLE oo_ml.{partition_name(month_of(NOW, 3))}")
    tamper(admin, "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA oo_ml FROM service")
    service = serve(upkeep_interval=0.1)
    until(lambda: (scrape(service.client).value("oo_ml_upkeep_failures_total") or 0) > 2)


def test_partitions_and_alarms(service: Service, admin: Engine) -> None:
    """Months ahead are counted, and an alarm is 1 as long as its reason lasts, although upkeep does not run."""
    found = scrape(service.client)
    assert (found.value("oo_ml_partitions_ahead_months"), alarms(found)) == (3, set())
    tamper(admin, f"DROP TABLE oo_ml.{partition_name(month_of(NOW, 1))}")
    found = scrape(service.client)
    assert (found.value("oo_ml_partitions_ahead_months"), alarms(found)) == (2, {"missing"})
    tamper(admin, f"SELECT oo_ml.create_feature_history_months('{month_of(NOW, 1):%Y-%m-%d}Z', 1)")
    assert alarms(scrape(service.client)) == set()


def test_stray_decisions(service: Service, admin: Engine) -> None:
    """Decisions of a month that has come, in the default partition, are an alarm; too many are another one."""
    tamper(admin, f"SELECT oo_ml.create_feature_history_months('{month_of(NOW, -2):%Y-%m-%d}Z', 1)")
    score = calls.score(decision_id=str(uuid7(month_of(NOW, -1))))
    assert service.client.post("/score", json=score).status_code == 200
    assert alarms(scrape(service.client)) == {"stray"}


def test_crowded_month(service: Service, admin: Engine) -> None:
    """A month that has too many decisions in the default partition to be made is an alarm."""
    crowd_month(admin, month_of(NOW, 3))
    assert alarms(scrape(service.client)) == {"crowded"}


def test_age_of_numbers(serve: Serve) -> None:
    """Within OO_ML_METRICS_MAX_AGE a scrape does not read the database again; what is counted is always current."""
    service = serve(metrics_max_age=3600)
    for decisions in (1, 2):
        service.client.post("/score", json=calls.score())
        found = scrape(service.client)
        assert found.value("oo_ml_upkeep_rows_not_counted") == 1
        assert found.sum("oo_ml_decisions_total") == decisions


def test_database_that_never_answered() -> None:
    """Without its database from the start, a scrape says so and has the numbers that need none."""
    with serving(make_settings(), "postgresql://missing@127.0.0.1:1/nothing") as service:
        service.client.get("/livez")
        found = scrape(service.client)
    assert found.value("oo_ml_database_up") == 0
    assert found.value("oo_ml_request_seconds_count", method="GET", route="/livez", status="200") == 1
    assert found.value("oo_ml_build_info", version="0.1.0") == 1
    # A 0 would raise alarms.
    assert found.value("oo_ml_partitions_ahead_months") is None


def test_silent_database(database_url: str, create_key: Create) -> None:
    """While the database is silent, a key that was known is accepted, and the scrape has the last numbers."""
    token = create_key(Scope.METRICS).token
    hurried = {"lock_timeout": 0.2, "statement_timeout": 0.3, "request_timeout": 0.5, "database_connect_timeout": 2}
    settings = make_settings(**FRESH, **hurried, auth=Auth.REQUIRED, key_max_age=1e-9)
    with run_proxy(database_url) as (proxy, url), serving(settings, url) as service:
        until(lambda: service.client.get("/metrics", headers=bearer(token)).status_code == 200)
        until(lambda: scrape(service.client, **bearer(token)).value("oo_ml_database_up") == 1)
        proxy.mute()
        proxy.mute_after_login(1000)
        found = scrape(service.client, **bearer(token))
        assert found.value("oo_ml_database_up") == 0
        assert found.value("oo_ml_partitions_ahead_months") == 3
        assert service.client.get("/metrics", headers=bearer("ooml_unknown")).status_code == 503
        assert service.client.get("/stats/ada", headers=bearer(token)).status_code == 503
        proxy.mute_after_login(0)
        until(lambda: scrape(service.client, **bearer(token)).value("oo_ml_database_up") == 1)
