"""The versions of a prior."""

from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import Engine

from oo_ml.domain.policies import LINUCB
from oo_ml.domain.population import Prior
from oo_ml.storage import policy_priors
from oo_ml.storage.policy_priors import PriorRow
from tests.services.policies.learners import NAME, Learners
from tests.services.policies.readers import NOON
from tests.serving import Service
from tests.sessions import writing

PATH = f"/policies/{NAME}/priors"


@pytest.fixture(autouse=True)
def _versions(db: Engine) -> None:
    """Three versions of a prior: the second moves one number by half of a standard deviation, the third none."""
    Learners(db)
    with writing(db) as connection:
        for version, second in ((1, 0.4), (2, 0.5), (3, 0.5)):
            mean = np.array([0.1, second, -0.2])
            prior = Prior(version, mean, 0.04 * np.eye(3), 0.01 * np.eye(3), 0.25)
            policy_priors.insert(connection, PriorRow(NAME, prior, NOON + timedelta(hours=version), 10, 50 * version))


def test_versions(service: Service) -> None:
    """The latest comes first, each with its mean by label and its largest change."""
    page = service.client.get(PATH).json()
    assert page["next_cursor"] is None
    assert [one["version"] for one in page["items"]] == [3, 2, 1]
    assert [one["largest_change"] for one in page["items"]] == [0, pytest.approx(0.5), pytest.approx(2)]
    assert page["items"][0] == {
        "version": 3,
        "fitted_at": "2026-11-23T15:00:00Z",
        "users": 10,
        "rewards": 150,
        "noise_variance": 0.25,
        "mean": [
            {"label": "one", "mean": 0.1, "deviation": 0.2},
            {"label": "a", "mean": 0.5, "deviation": 0.2},
            {"label": "b", "mean": -0.2, "deviation": 0.2},
        ],
        "largest_change": 0.0,
    }


def test_pages(service: Service) -> None:
    """A page knows the largest change of its last version too."""
    first = service.client.get(PATH, params={"limit": 2}).json()
    assert [one["largest_change"] for one in first["items"]] == [0, pytest.approx(0.5)]
    second = service.client.get(PATH, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [one["version"] for one in second["items"]] == [1]
    assert second["next_cursor"] is None


def test_version_before_was_deleted(service: Service, db: Engine) -> None:
    """The first version that is left has no largest change."""
    with writing(db) as connection:
        assert policy_priors.delete_replaced(connection, NOON + timedelta(hours=2, seconds=1)) == 1
    assert [one["largest_change"] for one in service.client.get(PATH).json()["items"]] == [0, None]


def test_policies_without_versions(service: Service) -> None:
    """A policy that is not pooled has no versions; an unknown one is a 404."""
    assert service.client.get(f"/policies/{LINUCB}/priors").json() == {"items": [], "next_cursor": None}
    refused = service.client.get("/policies/nowhere-v1/priors")
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_policy")
