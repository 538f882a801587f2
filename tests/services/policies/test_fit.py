"""The fit of priors: its numbers, when it is due, and what a failure, an erasure and another process change."""

import asyncio
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from oo_ml.domain.population import Prior
from oo_ml.errors import FitFailedError, NoPriorError, UnknownPolicyError
from oo_ml.services.database import single_worker
from oo_ml.services.decisions.reset import reset
from oo_ml.services.policies import fit as service
from oo_ml.services.policies.fit import Fits, Fitted, Material, ReadCommand, fit_due, fit_policy
from oo_ml.services.users.erase import erase
from oo_ml.storage import evidence_sample, policy_priors
from oo_ml.storage.policy_priors import PriorRow
from tests.conftest import make_settings
from tests.gates import scalar
from tests.services.policies.learners import MEAN, NAME, NOISE, SPREAD, Learners
from tests.services.policies.readers import NOON, publish_policy
from tests.services.upkeep.months import run
from tests.sessions import open_session, writing

LATER = NOON + timedelta(days=10)
# An erasure leads to a fit from then on.
SOON = NOON + timedelta(minutes=10)


@pytest.fixture
def learners(db: Engine) -> Learners:
    """Users of a policy who share a taste."""
    return Learners(db)


def fit(url: str, now: datetime = NOON, policy: str = NAME, **options: Any) -> Fitted | None:  # noqa: ANN401 - its options
    """Fit now."""
    with single_worker(make_settings(), url) as worker:
        return asyncio.run(fit_policy(worker, make_settings(), ReadCommand(policy, now), **options))


def keep_up(url: str, now: datetime = NOON, **settings: Any) -> Fits:  # noqa: ANN401 - values of any setting
    """Fit what is due."""
    with single_worker(make_settings(), url) as worker:
        return asyncio.run(fit_due(worker, make_settings(**settings), now))


def versions(db: Engine, policy: str = NAME) -> list[PriorRow]:
    """Return all versions, the first one first."""
    with open_session(db) as connection:
        return policy_priors.list_versions(connection, policy, 1000, 0)[::-1]


def test_recovery(learners: Learners, db: Engine, database_url: str) -> None:
    """The fit finds the mean, the spread and the noise of simulated users."""
    learners.teach(200, 12)
    found = fit(database_url)
    assert found is not None
    [row] = versions(db)
    assert (row.policy, row.prior.version, row.fitted_at, row.users, row.rewards) == (NAME, 1, NOON, 200, 2400)
    np.testing.assert_allclose(row.prior.mean, MEAN, atol=0.08)
    np.testing.assert_allclose(np.sqrt(np.diag(row.prior.covariance)), SPREAD, atol=0.08)
    assert row.prior.noise_variance == pytest.approx(NOISE**2, rel=0.1)
    assert found.is_inserted
    assert found.version.largest_change == pytest.approx(
        max(abs(row.prior.mean) / np.sqrt(np.diag(row.prior.covariance))), rel=1e-12
    )


def test_fading(learners: Learners, db: Engine, database_url: str) -> None:
    """Rewards are faded to the time of the fit: half of the rewards' weight is left after a half-life."""
    learners.teach(40, 5)
    fit(database_url)
    fit(database_url, LATER)
    learners.teach(40, 5, first=40, at=LATER, mean=-MEAN)
    fit(database_url, LATER)
    now, faded, turned = versions(db)
    assert np.trace(faded.prior.mean_covariance) > np.trace(now.prior.mean_covariance) * 1.1
    # The recent rewards, of twice the weight, decide about the sign.
    assert np.sign(faded.prior.mean[1:]).tolist() == [1, -1]
    assert turned.prior.mean[1] < faded.prior.mean[1] / 2


def test_due(learners: Learners, db: Engine, database_url: str) -> None:
    """Due after five rewards at first, then after a tenth more, and after a day if there are any more."""
    learners.teach(4, 1)
    assert keep_up(database_url) == Fits([], [])
    learners.teach(1, 1, first=4)
    [row] = keep_up(database_url).fitted
    assert (row.policy, row.prior.version, row.users, row.rewards) == (NAME, 1, 5, 5)
    learners.teach(1, 95)
    assert [row.rewards for row in keep_up(database_url).fitted] == [100]
    learners.teach(1, 9)
    assert keep_up(database_url, NOON + timedelta(hours=23)) == Fits([], [])
    assert [row.rewards for row in keep_up(database_url, NOON + timedelta(hours=24)).fitted] == [109]
    assert keep_up(database_url, NOON + timedelta(days=9)) == Fits([], [])
    learners.teach(1, 11)
    assert [row.rewards for row in keep_up(database_url, NOON + timedelta(days=9)).fitted] == [120]
    assert [row.prior.version for row in versions(db)] == [1, 2, 3, 4]


def test_other_policies(learners: Learners, db: Engine, database_url: str) -> None:
    """A policy that is not pooled has no prior, and an unknown one neither."""
    publish_policy(db, "alone-v1")
    learners.teach(9, 1)
    assert [row.policy for row in keep_up(database_url).fitted] == [NAME]
    with pytest.raises(NoPriorError, match="Policy alone-v1 is not pooled, so it has no prior"):
        fit(database_url, policy="alone-v1")
    with pytest.raises(UnknownPolicyError, match="nowhere-v1"):
        fit(database_url, policy="nowhere-v1")


@pytest.mark.usefixtures("learners")
def test_no_users(db: Engine, database_url: str) -> None:
    """Without a reward nothing happens."""
    assert fit(database_url) is None
    assert versions(db) == []


def test_rewards_that_left_no_evidence(learners: Learners, db: Engine, database_url: str) -> None:
    """If no user has evidence left, a version of no users repeats the one before, and is not due until rewards come."""
    learners.teach(5, 1)
    keep_up(database_url)
    learners.teach(5, 1)
    run(db, "UPDATE oo_ml.policy_state SET weight = 0")
    [row] = keep_up(database_url).fitted
    assert (row.prior.version, row.users, row.rewards) == (2, 0, 10)
    first, repeated = (row.prior for row in versions(db))
    np.testing.assert_array_equal(repeated.mean, first.mean)
    np.testing.assert_array_equal(repeated.covariance, first.covariance)
    assert keep_up(database_url) == Fits([], [])
    assert keep_up(database_url, NOON + timedelta(days=9)) == Fits([], [])
    assert fit(database_url) is None
    learners.teach(5, 1, first=5)
    assert [row.users for row in keep_up(database_url).fitted] == [5]


def test_first_rewards_that_left_no_evidence(learners: Learners, db: Engine, database_url: str) -> None:
    """Without a version before, a version of no users is the prior before data."""
    learners.teach(5, 1)
    run(db, "UPDATE oo_ml.policy_state SET weight = 0")
    [row] = keep_up(database_url).fitted
    assert (row.prior.version, row.users, row.rewards) == (1, 0, 5)
    assert not row.prior.mean.any()
    assert keep_up(database_url) == Fits([], [])


def test_dry_run(learners: Learners, db: Engine, database_url: str) -> None:
    """A dry run computes the version, and inserts nothing."""
    learners.teach(5, 2)
    steps: list[int] = []
    found = fit(database_url, is_dry_run=True, advance=steps.append)
    assert found is not None
    assert (found.row.prior.version, found.row.users, found.is_inserted) == (1, 5, False)
    assert steps == [1, 1]
    assert versions(db) == []


def test_concurrent_fits(learners: Learners, db: Engine, database_url: str) -> None:
    """Of fits that read the same version one is inserted, and the others are dropped."""
    learners.teach(20, 5)

    async def fit_all() -> list[Fitted | None]:
        command = ReadCommand(NAME, NOON)
        return await asyncio.gather(*(fit_policy(worker, make_settings(), command) for worker in workers))

    with (
        single_worker(make_settings(), database_url) as one,
        single_worker(make_settings(), database_url) as two,
        single_worker(make_settings(), database_url) as three,
    ):
        workers = [one, two, three]
        outcomes = asyncio.run(fit_all())
    inserted = [found.row.prior.version for found in outcomes if found and found.is_inserted]
    assert inserted == [row.prior.version for row in versions(db)]
    with writing(db) as connection:
        [row] = versions(db)[:1]
        assert service.insert(connection, [row]) == [False]


@pytest.mark.parametrize(
    "column", ["a = array_fill(1e308::float8, ARRAY[3, 3])", "b = array_fill(1e308::float8, ARRAY[3])"]
)
def test_evidence_that_is_too_large(learners: Learners, db: Engine, database_url: str, column: str) -> None:
    """A fit whose result is not finite is a problem, changes nothing, and leaves other policies alone."""
    learners.teach(5, 2)
    Learners(db, "shared-v2").teach(5, 2)
    run(db, f"UPDATE oo_ml.policy_state SET {column} WHERE policy = '{NAME}'")  # noqa: S608 - names of ours
    found = keep_up(database_url)
    assert [row.policy for row in found.fitted] == ["shared-v2"]
    [problem] = found.problems
    assert isinstance(problem, FitFailedError)
    assert problem.message == f"The prior of {NAME} could not be fitted, and stays as it is"
    assert versions(db) == []


def test_failure_again(learners: Learners, db: Engine, database_url: str) -> None:
    """A fit that failed is a problem of each run, and is tried again after an hour."""
    learners.teach(5, 2)
    run(db, f"UPDATE oo_ml.policy_state SET b = array_fill(1e308::float8, ARRAY[3]) WHERE policy = '{NAME}'")  # noqa: S608 - names of ours
    failures: dict[str, service.Failure] = {}

    def keep_up_again(now: datetime) -> Fits:
        with single_worker(make_settings(), database_url) as worker:
            return asyncio.run(fit_due(worker, make_settings(), now, failures))

    [problem] = keep_up_again(NOON).problems
    run(db, f"UPDATE oo_ml.policy_state SET b = array_fill(0::float8, ARRAY[3]) WHERE policy = '{NAME}'")  # noqa: S608 - names of ours
    assert keep_up_again(NOON + timedelta(minutes=59)) == Fits([], [problem])
    assert [row.policy for row in keep_up_again(NOON + timedelta(minutes=60)).fitted] == [NAME]
    assert not failures


def test_fit_that_hangs(learners: Learners, db: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that does not end in time has failed, and the run of upkeep goes on to its end."""
    learners.teach(5, 2)
    Learners(db, "shared-v2").teach(5, 2)
    end, compute = threading.Event(), service.compute_next

    def hang(material: Material, policy: str, now: datetime) -> Prior | None:
        if policy == NAME:
            end.wait()
        return compute(material, policy, now)

    monkeypatch.setattr(service, "compute_next", hang)
    try:
        found = keep_up(database_url, prior_fit_timeout=2)
    finally:
        end.set()
    assert [problem.explanation for problem in found.problems] == [
        f"The prior of {NAME} could not be fitted, and stays as it is: it took longer than 2 seconds"
    ]
    assert scalar(db, "SELECT ran_at FROM oo_ml.upkeep WHERE task = 'priors'") == NOON


def test_fitted_meanwhile(learners: Learners, db: Engine, database_url: str) -> None:
    """A prior that another process has fitted is not due any more, unless it is asked for."""
    learners.teach(20, 5)
    keep_up(database_url)
    with open_session(db) as connection:
        assert service.read_material(connection, [ReadCommand(NAME, NOON, only_if_due=True)]) == [None]
        [material] = service.read_material(connection, [ReadCommand(NAME, NOON)])
    assert isinstance(material, Material)


def test_erasure(learners: Learners, db: Engine, database_url: str) -> None:
    """After an erasure the next run fits again, without the user; an erased stranger changes nothing."""
    learners.teach(20, 5)
    keep_up(database_url)
    with writing(db) as connection:
        erase(connection, ["stranger"])
    assert keep_up(database_url) == Fits([], [])
    with writing(db) as connection:
        erase(connection, ["user 3", "user 4"])
    # Not at once: with one erasure after another, every run would add a version.
    assert keep_up(database_url, SOON - timedelta(seconds=1)) == Fits([], [])
    [row] = keep_up(database_url, SOON).fitted
    assert (row.prior.version, row.users, row.rewards, row.erasures) == (2, 18, 90, 2)
    assert keep_up(database_url, SOON) == Fits([], [])


def test_nothing_is_left_of_an_erased_user(learners: Learners, db: Engine, database_url: str) -> None:
    """The version after an erasure is the one that there would be if the user had never come."""
    learners.teach(100, 4)
    learners.teach(1, 50, first=100, mean=np.array([-1.0, 1.0, 1.0]))
    keep_up(database_url)
    with writing(db) as connection:
        erase(connection, ["user 100"])
    [row] = keep_up(database_url, SOON).fitted
    fresh = compute_first(db, NAME)
    for column in ("mean", "covariance", "mean_covariance", "noise_variance"):
        np.testing.assert_allclose(getattr(row.prior, column), getattr(fresh, column), rtol=1e-12)


def compute_first(db: Engine, policy: str) -> Prior:
    """Return the first version of a prior, as if there had been none."""
    with open_session(db) as connection:
        [material] = service.read_material(connection, [ReadCommand(policy, SOON)])
    assert isinstance(material, Material)
    first = replace(material, population=replace(material.population, prior=Prior.initial(3)), before=None)
    prior = service.compute_next(first, policy, SOON)
    assert prior is not None
    return prior


def test_erasure_during_a_fit(learners: Learners, db: Engine, database_url: str) -> None:
    """A version that was read before an erasure and inserted after it is replaced by the next run."""
    learners.teach(20, 5)
    with open_session(db) as connection:
        [material] = service.read_material(connection, [ReadCommand(NAME, NOON)])
    with writing(db) as connection:
        erase(connection, ["user 3"])
    assert isinstance(material, Material)
    prior = service.compute_next(material, NAME, NOON)
    assert prior is not None
    with writing(db) as connection:
        service.insert(connection, [PriorRow(NAME, prior, NOON, 20, material.rewards, material.erasures)])
    assert [row.users for row in keep_up(database_url, SOON).fitted] == [19]


def test_erasure_after_a_reset(learners: Learners, db: Engine, database_url: str) -> None:
    """A user whose evidence a reset has removed may be in the latest prior all the same."""
    learners.teach(20, 5)
    keep_up(database_url)
    with writing(db) as connection:
        reset(connection, ["user 3"])
    assert keep_up(database_url) == Fits([], [])
    with writing(db) as connection:
        erase(connection, ["user 3"])
    assert [row.users for row in keep_up(database_url, SOON).fitted] == [19]


def test_erasure_of_all(learners: Learners, db: Engine, database_url: str) -> None:
    """After the last user is erased, the next version is the prior before data."""
    learners.teach(5, 1)
    keep_up(database_url)
    with writing(db) as connection:
        erase(connection, [f"user {number}" for number in range(5)])
    [row] = keep_up(database_url, SOON).fitted
    assert (row.prior.version, row.users, row.rewards) == (2, 0, 0)
    assert not row.prior.mean.any()
    assert keep_up(database_url, SOON) == Fits([], [])


def test_retention(learners: Learners, database_url: str, db: Engine) -> None:
    """A version goes some days after a newer one has replaced it; the latest stays for ever."""
    learners.teach(5, 1)
    for day in (0, 1, 5):
        fit(database_url, NOON + timedelta(days=day))
    keep_up(database_url, NOON + timedelta(days=4), prior_retention_days=3)
    assert [row.prior.version for row in versions(db)] == [1, 2, 3]
    keep_up(database_url, NOON + timedelta(days=4, seconds=1), prior_retention_days=3)
    assert [row.prior.version for row in versions(db)] == [2, 3]
    keep_up(database_url, NOON + timedelta(days=900), prior_retention_days=3)
    assert [row.prior.version for row in versions(db)] == [3]


def test_versions_never_change(learners: Learners, db: Engine, database_url: str) -> None:
    """No statement can change a version."""
    learners.teach(5, 1)
    fit(database_url)
    with pytest.raises(IntegrityError, match="it never changes"):
        run(db, "UPDATE oo_ml.policy_priors SET noise_variance = 1")


def test_sample(learners: Learners, db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """More users than the limit are a random sample of that size: each is drawn as often as any other."""
    learners.teach(30, 1)
    monkeypatch.setattr(evidence_sample, "_MOST_USERS", 10)
    seen = np.zeros(30)
    run(db, "UPDATE oo_ml.policy_state SET squares = CAST(substr(user_id, 6) AS float8)")
    with open_session(db) as connection:
        for _ in range(300):
            sample = evidence_sample.draw(connection, NAME, 3, 0.0)
            assert sample is not None
            drawn = sample.squares.astype(int)
            assert len(set(drawn)) == 10
            seen[drawn] += 1
    # Binomial(300, 1/3): 8.2 is its standard deviation; six of them are no bad luck.
    np.testing.assert_allclose(seen, 100, atol=50)


def test_few_users_in_a_large_table(learners: Learners, db: Engine) -> None:
    """A policy with few users is read by its index, and not with the users of the other policies."""
    learners.teach(50, 1)
    run(
        db,
        "INSERT INTO oo_ml.policy_state SELECT (jsonb_populate_record(s, jsonb_build_object('user_id', i::text,"
        " 'policy', 'linucb-v1'))).*"
        " FROM oo_ml.policy_state AS s, generate_series(1, 20000) AS i WHERE s.user_id = 'user 0'",
    )
    with open_session(db) as connection:
        sample = evidence_sample.draw(connection, NAME, 3, 0.0)
        read = connection.scalar(
            text("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'policy_state'")
        )
    assert sample is not None
    assert len(sample.weight) == 50
    # The pilot reads one page of a hundred.
    assert read < 2000


def test_sample_of_pages(learners: Learners, db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a table with many users a part of the pages is read."""
    learners.teach(1, 1)
    run(
        db,
        "INSERT INTO oo_ml.policy_state"
        " SELECT (jsonb_populate_record(s, jsonb_build_object('user_id', i::text, 'squares', i))).*"
        " FROM oo_ml.policy_state AS s, generate_series(1, 40000) AS i",
    )
    monkeypatch.setattr(evidence_sample, "_PILOT", 20)
    monkeypatch.setattr(evidence_sample, "_MOST_USERS", 10_000)
    count_pages = text("""
        SELECT count(DISTINCT (CAST(CAST(ctid AS text) AS point))[0]) FILTER (WHERE squares = ANY (:drawn)),
            count(DISTINCT (CAST(CAST(ctid AS text) AS point))[0])
        FROM oo_ml.policy_state
    """)
    with open_session(db) as connection:
        sample = evidence_sample.draw(connection, NAME, 3, 0.0)
        assert sample is not None
        read, all_pages = connection.execute(count_pages, {"drawn": sample.squares.tolist()}).one()
    # 12,000 users on 571 of 1,905 pages are expected; the bounds are more than eight standard deviations from that.
    assert len(sample.weight) > 6000
    assert read < all_pages / 2


def test_sample_of_large_evidence(learners: Learners, db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The more numbers the evidence of a user has, the fewer users are drawn."""
    learners.teach(30, 1)
    # Of a user: A has 9 numbers, b 3, and there are two sums.
    monkeypatch.setattr(evidence_sample, "_MOST_NUMBERS", 14 * 7 + 13)
    with open_session(db) as connection:
        sample = evidence_sample.draw(connection, NAME, 3, 0.0)
    assert sample is not None
    assert sample.A.shape == (7, 3, 3)
