"""`oo-ml policies fit`, and the fits of `oo-ml upkeep`."""

import json
from datetime import UTC, datetime

from sqlalchemy import Engine

from tests.cli.test_policies import policies
from tests.commands import Done, oo_ml
from tests.gates import scalar
from tests.services.policies.learners import NAME, Learners
from tests.services.upkeep.months import run

HEAD = "policy\tversion\tusers\trewards\tnoise\tlargest change\tinserted\n"
COUNT = "SELECT count(*) FROM oo_ml.policy_priors"


def teach(learners: Learners, users: int, rewards: int) -> None:
    """Give rewards of now: commands fit by the clock, and rewards fade."""
    learners.teach(users, rewards, at=datetime.now(UTC))


def test_fit(database_url: str, db: Engine) -> None:
    """Every pooled policy with rewards is fitted; the progress goes to standard error."""
    teach(Learners(db), 20, 5)
    dry = policies(database_url, "fit", "--dry-run")
    assert dry.code == 0
    head, line = dry.out.splitlines()
    assert head + "\n" == HEAD
    name, version, users, rewards, noise, change, inserted = line.split("\t")
    assert (name, version, users, rewards, inserted) == (NAME, "1", "20", "100", "no")
    assert 0.04 < float(noise) < 0.25
    assert float(change) > 0.5
    assert dry.err.splitlines()[-1] == "Fitting: 4 of 4"
    assert scalar(db, COUNT) == 0
    assert policies(database_url, "fit", NAME).out == f"{HEAD}{line.removesuffix('no')}yes\n"
    # Due or not.
    assert policies(database_url, "fit", NAME, NAME).out.splitlines()[1].startswith(f"{NAME}\t2\t20\t100\t")
    assert scalar(db, COUNT) == 2


def test_json(database_url: str, db: Engine) -> None:
    """JSON has the mean by label."""
    teach(Learners(db), 5, 3)
    [found] = json.loads(policies(database_url, "fit", NAME, "--json").out)
    assert (found["policy"], found["version"], found["rewards"], found["inserted"]) == (NAME, 1, 15, True)
    assert [one["label"] for one in found["mean"]] == ["one", "a", "b"]
    stored = scalar(db, "SELECT mean FROM oo_ml.policy_priors")
    assert [one["mean"] for one in found["mean"]] == list(stored)  # type: ignore[call-overload]


def test_nothing_to_fit(database_url: str) -> None:
    """Without rewards no version is made, and the command succeeds."""
    assert policies(database_url, "fit") == Done(0, HEAD, "Fitting: 1 of 2\nFitting: 2 of 2\n")


def test_refusals(database_url: str, db: Engine) -> None:
    """A policy that is not pooled, an unknown one and a failed fit are errors; the others are fitted."""
    teach(Learners(db), 5, 3)
    teach(Learners(db, "shared-v2"), 5, 3)
    run(db, f"UPDATE oo_ml.policy_state SET b = '{{1e308,1e308,1e308}}' WHERE policy = '{NAME}'")  # noqa: S608 - a name of ours
    done = policies(database_url, "fit", NAME, "linucb-v1", "nowhere-v1", "shared-v2")
    assert done.code == 1
    assert [line.split("\t")[0] for line in done.out.splitlines()] == ["policy", "shared-v2"]
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith(f"error: The prior of {NAME} could not be fitted, and stays as it is: ")
    assert errors[1:] == [
        "error: Policy linucb-v1 is not pooled, so it has no prior",
        "error: Unknown policy: nowhere-v1",
    ]
    assert policies(database_url, "fit", "not a name").code == 2


def test_upkeep(database_url: str, db: Engine) -> None:
    """`oo-ml upkeep` fits what is due, and fails if a fit fails."""
    teach(Learners(db), 5, 3)
    assert oo_ml("upkeep", OO_ML_DATABASE_URL=database_url) == Done(
        0, f"fitted version 1 of the prior of {NAME} to 5 users\n", ""
    )
    assert json.loads(oo_ml("upkeep", "--json", OO_ML_DATABASE_URL=database_url).out)["priors"] == []
    teach(Learners(db, "shared-v2"), 5, 3)
    run(db, "UPDATE oo_ml.policy_state SET b = '{1e308,1e308,1e308}' WHERE policy = 'shared-v2'")
    done = oo_ml("upkeep", OO_ML_DATABASE_URL=database_url)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: The prior of shared-v2 could not be fitted, and stays as it is: ")
