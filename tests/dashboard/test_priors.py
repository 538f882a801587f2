"""Versions of the prior, new users by version, and a user beside all users, in a real Chromium."""

import csv
from datetime import timedelta

import pytest
from playwright.sync_api import expect
from sqlalchemy import Engine, text

from oo_ml.domain.population import Prior
from tests.dashboard.conftest import Visit
from tests.dashboard.test_overview import assert_plain, cells, format_reward, rows_of
from tests.dashboard.weeks import simulate
from tests.pooled_users import POOLED, fit, live
from tests.serving import Service
from tests.sessions import writing
from tests.simulated_users import NOON, SimulatedUsers

pytestmark = pytest.mark.slow


@pytest.fixture
def prior(db: Engine) -> Prior:
    """Let three users a day come for eight days, and fit a prior after each; return the last version."""
    simulated = SimulatedUsers(db, 81)
    found: Prior | None = None
    for day in range(8):
        simulated.now = NOON - timedelta(days=7 - day)
        live(simulated, users=3 * min(day + 1, 5), decisions=3, prior=found, first=3 * max(0, day - 4))
        found = fit(db, found, simulated.now)
    assert found is not None
    return found


def test_history(service: Service, prior: Prior, visit: Visit) -> None:
    """The part has the latest version with its numbers, and all versions in its table; the CSV has the same."""
    page = visit(service)
    part = page.locator("#priors")
    shown = part.locator("dd").all_inner_texts()
    assert (shown[0], shown[2]) == (str(prior.version), "24")
    labels = service.client.get(f"/policies/{POOLED}").json()["labels"]
    rows = rows_of(service, page, "priors")
    part.locator("summary").click()
    table = cells(part)
    assert [row[0] for row in table] == [row["version"] for row in rows] == [str(8 - place) for place in range(8)]
    assert [row[2:4] for row in table] == [[row["users"], row["rewards"]] for row in rows]
    for line, row in zip(table, rows, strict=True):
        assert line[5].split("\n")[1] == labels[int(row["changed_feature"]) - 1]
    expect(part.locator(".warning")).to_have_count(0)
    assert_plain(page)


def test_doubts_about_a_prior(service: Service, db: Engine, visit: Visit) -> None:
    """The part says if a prior is of few users, and if the last fit moved it by as much as users differ."""
    simulated = SimulatedUsers(db, 82)
    live(simulated, users=2, decisions=4)
    before = fit(db, None, simulated.now)
    with writing(db) as connection:
        mean = "(SELECT array_agg(number + 5) FROM unnest(mean) AS number)"
        columns = "covariance, mean_covariance, noise_variance"
        connection.execute(
            text(f"""
                INSERT INTO oo_ml.policy_priors (policy, version, fitted_at, users, rewards, erasures, mean, {columns})
                SELECT policy, version + 1, fitted_at, users, rewards, erasures, {mean}, {columns}
                FROM oo_ml.policy_priors
            """)  # noqa: S608 - names of ours
        )
    part = visit(service).locator("#priors")
    assert before.version == 1
    expect(part.locator(".warning")).to_contain_text("The latest fit moved ")
    expect(part.locator(".note").first).to_contain_text("below 14 users, how much users differ is mostly assumed")


def test_new_users(service: Service, prior: Prior, visit: Visit) -> None:
    """The part draws the earliest and the latest versions with enough rewards; table and CSV have all."""
    page = visit(service)
    part = page.locator("#firsts")
    expect(part.locator("canvas")).to_be_visible()
    expect(part.locator(".key").first).to_have_text(f"{POOLED}, versions 4\N{EN DASH}7")
    expect(part.locator(".key").nth(1)).to_have_text(f"{POOLED}, versions 2\N{EN DASH}3")
    expect(part).not_to_contain_text("false")
    rows = rows_of(service, page, "firsts")
    part.locator("summary").click()
    table = cells(part)
    assert [row[4] for row in table] == [format_reward(row["mean_reward"]) for row in rows]
    assert {row[1] for row in table} == {"0", "1", "2\N{EN DASH}3", "4\N{EN DASH}7"}
    assert prior.version == 8
    assert_plain(page)


def test_few_first_decisions(service: Service, db: Engine, visit: Visit) -> None:
    """With too few rewards there is a table and no curve."""
    live(SimulatedUsers(db, 83), users=2, decisions=4)
    part = visit(service).locator("#firsts")
    expect(part.locator(".nothing")).to_contain_text("fewer than 30 rewards")
    expect(part.locator("canvas")).to_have_count(0)
    part.locator("summary").click()
    assert len(cells(part)) == 1


def test_without_a_population(service: Service, db: Engine, visit: Visit) -> None:
    """If no pooled policy has decided, both parts say so."""
    simulate(db, days=2)
    page = visit(service)
    expect(page.locator("#priors .nothing")).to_contain_text("No prior was fitted on these days.")
    expect(page.locator("#firsts .nothing")).to_contain_text(f"by a pooled policy, such as {POOLED}")


def test_user_beside_all(service: Service, prior: Prior, visit: Visit) -> None:
    """A user's state has the population's theta beside the user's own, and the share of own evidence."""
    page = visit(service, "/dashboard/user?id=user%2013")
    card = page.get_by_label(POOLED, exact=True)
    known = service.client.get(f"/policies/{POOLED}/users/user%2013").json()
    assert card.locator("dd").all_inner_texts()[-2:] == [f"{known['own_evidence']:.1%}", str(prior.version)]
    expect(card.locator(".intervals .row")).to_have_count(12)
    expect(card.locator(".mark.weighted")).to_have_count(12)
    shown = card.locator(".intervals .values .weighted").all_inner_texts()
    assert shown == [format_reward(str(one["population"]["estimate"])) for one in known["theta"]]
    with page.expect_download() as download:
        card.get_by_role("link", name="CSV").click()
    rows = list(csv.reader(download.value.path().read_text("utf-8").splitlines()))
    assert [[float(one) for one in row[4:]] for row in rows[1:]] == [
        [one["population"][name] for name in ("estimate", "low", "high")] for one in known["theta"]
    ]
    assert_plain(page)


def test_user_before_the_first_fit(service: Service, visit: Visit) -> None:
    """Before the first fit the page says that all users are an assumption."""
    body = {"user_id": "ada", "candidates": [{"id": "t1", "features": {"priority": 4}}]}
    assert service.client.post(f"/policies/{POOLED}/score", json=body).status_code == 200
    card = visit(service, "/dashboard/user?id=ada").get_by_label(POOLED, exact=True)
    expect(card.locator(".note")).to_contain_text("No prior is fitted yet")
    assert card.locator("dd").all_inner_texts()[-2:] == ["0.0%", "0"]
