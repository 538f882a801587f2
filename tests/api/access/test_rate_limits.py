"""Each key may make so many calls in a time."""

import pytest

from oo_ml.domain.access import Scope
from oo_ml.errors import ConfigurationError
from oo_ml.setting_choices import Auth
from oo_ml.settings import Settings
from tests import calls
from tests.api.access.conftest import ADMIN_TOKEN, Create, bearer
from tests.conftest import Serve

_DAY = 86_400


def test_calls_beyond_the_limit_are_refused(serve: Serve, create_key: Create) -> None:
    """The call after the last one that is allowed is a 429 with the time to wait; another key has calls of its own."""
    service = serve(auth=Auth.REQUIRED, admin_key=ADMIN_TOKEN, rate_limit="2/day", epsilon=0)
    mine, other = (bearer(create_key(Scope.ADMIN, name=name).token) for name in ("a", "b"))
    hot = service.client.post("/score", json=calls.score(), headers=mine)
    cold = service.client.get("/prompts", headers=mine)
    assert (hot.status_code, cold.status_code) == (200, 200)
    for refused in (
        service.client.post("/score", json=calls.score(), headers=mine),
        service.client.get("/prompts", headers=mine),
    ):
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert 1 <= int(refused.headers["Retry-After"]) <= _DAY
    assert service.client.get("/prompts", headers=other).status_code == 200
    assert service.client.get("/prompts", headers=bearer(ADMIN_TOKEN)).status_code == 200
    assert service.client.get("/readyz", headers=mine).status_code == 200


def test_strangers_use_up_nothing(serve: Serve, create_key: Create) -> None:
    """Calls without a valid key are a 401 however many there are, and no key has fewer calls for them."""
    service = serve(auth=Auth.REQUIRED, admin_key=ADMIN_TOKEN, rate_limit="1/day")
    token = create_key(Scope.READ).token
    for headers in ({}, bearer(f"{token}x"), bearer("x")):
        assert [service.client.get("/prompts", headers=headers).status_code for _ in range(3)] == [401] * 3
    assert service.client.get("/prompts", headers=bearer(token)).status_code == 200
    assert service.client.get("/prompts", headers=bearer(token)).status_code == 429


@pytest.mark.parametrize("rate", ["0/second", "fast", "10", "-1/hour", "10/fortnight"])
def test_rates_that_cannot_work(rate: str) -> None:
    """A rate that can't be read stops the service at its start."""
    with pytest.raises(ConfigurationError, match="OO_ML_RATE_LIMIT: must be a number of calls and a time"):
        Settings(rate_limit=rate)
