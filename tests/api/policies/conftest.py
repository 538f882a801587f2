"""A service with the policy for articles, which tests/calls.py defines."""

import pytest

from tests import calls
from tests.conftest import Serve
from tests.serving import Service


@pytest.fixture
def articles(serve: Serve) -> Service:
    """The service, after the policy for articles was published; it sees a retirement at once."""
    service = serve(policy_max_age=1e-9)
    assert service.client.post("/policies", json=calls.publish_policy()).status_code == 201
    return service
