"""Every answer to the requests that schemathesis makes from the OpenAPI document is one that the document promises."""

from contextlib import closing
from importlib import import_module
from itertools import count
from typing import Any, Final

import pytest

from oo_ml.setting_choices import Auth
from tests import calls, openapi
from tests.conftest import Serve
from tests.gateway import Gateway

KEY: Final = "5c" * 32
OPERATIONS: Final = sorted(
    call["operationId"] for methods in openapi.document()["paths"].values() for call in methods.values()
)
# Probes need no key.
PROBES: Final = {"getHealth", "getLiveness", "getReadiness"}


@pytest.fixture
def target(operation_id: str, serve: Serve, gateway: Gateway) -> Any:  # noqa: ANN401 - a Target of the late module
    """A service that demands keys, and knows a decision with its tip, and the policy of the document's examples."""
    service = serve(auth=Auth.REQUIRED, admin_key=KEY, litellm_url=gateway.url)
    headers = {"Authorization": f"Bearer {KEY}"}
    made = service.client.post("/score", json=calls.score(), headers=headers).json()
    if operation_id != "publishPolicy":
        assert service.client.post("/policies", json=calls.publish_policy(), headers=headers).status_code == 201
    sender = import_module("tests.slow.fuzz.sender")
    known = sender.Known(
        user_id="ada", decision_id=made["decision_id"], tip_id=made["tip_id"], version="v1", policy=calls.ARTICLES
    )
    return sender.Target(service.url, KEY, known)


# They are about how it draws cases, not about answers.
@pytest.mark.filterwarnings("ignore::Warning:schemathesis")
@pytest.mark.parametrize(
    "requests", [pytest.param(5_000, marks=pytest.mark.slow), pytest.param(100_000, marks=pytest.mark.long)]
)
@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_answers_to_schemathesis(operation_id: str, requests: int, target: Any) -> None:  # noqa: ANN401 - a Target
    """So many requests to all operations get no 5xx, no status or body that is not promised, and no 200 if invalid.

    Each operation gets an equal share. Each case is sent without a key, which is refused, and with one. The seeds are
    fixed, so each run draws the same cases.
    """
    # Imported here, because it takes a second in each process of a run that does not select this test.
    module = import_module("tests.slow.fuzz.sender")
    share = -(-requests // len(OPERATIONS))
    with closing(module.Sender(operation_id, target)) as sender:
        sender.send_limits()
        for seed in count():
            before = sender.sent
            if before >= share:
                break
            sender.send_drawn(seed, most=(share - before + 1) // 2)
            assert sender.sent > before, "nothing was drawn"
    assert sender.without_key.keys() == {401} or operation_id in PROBES
    assert any(200 <= status < 300 for status in sender.with_key), sender.with_key
