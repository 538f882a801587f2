"""The page of a user in a real Chromium."""

import csv
from urllib.parse import quote

import pytest
from playwright.sync_api import expect
from sqlalchemy import Engine, text

from tests import calls
from tests.dashboard.conftest import Visit, Visits, wait_until_settled
from tests.dashboard.weeks import simulate
from tests.serving import Service
from tests.sessions import writing

pytestmark = pytest.mark.slow

FEATURES = ["hour_sin", "hour_cos", "is_overdue", "task_age", "priority"]
STRANGE = "<img src=x onerror=alert(1)>\"'&/../%00é😀"


def test_state(service: Service, db: Engine, visit: Visit) -> None:
    """The page shows the counters and theta of both policies as /stats does; the CSV has all digits."""
    simulate(db, days=5, users=["ada"])
    page = visit(service, "/dashboard/user?id=ada")
    expect(page.get_by_role("heading", level=1)).to_have_text("ada")
    stats = service.client.get("/stats/ada").json()
    linucb = page.get_by_label("linucb-v1", exact=True)
    assert [value.inner_text() for value in linucb.locator("dd").all()][:2] == ["15", str(stats["reward_count"])]
    assert linucb.locator(".bars .label").all_inner_texts() == FEATURES
    expect(page.get_by_label("egreedy-v1", exact=True).locator(".bars .row")).to_have_count(7)
    summary = linucb.locator("[role=img]").get_attribute("aria-label")
    assert summary is not None
    assert summary.startswith("Theta of linucb-v1: hour_sin ")
    with page.expect_download() as download:
        linucb.get_by_role("link", name="CSV").click()
    rows = list(csv.reader(download.value.path().read_text("utf-8").splitlines()))
    assert [float(row[1]) for row in rows[1:]] == stats["theta"]
    theta = service.client.get("/policies/linucb-v1/users/ada").json()["theta"]
    assert [[float(end) for end in row[2:]] for row in rows[1:]] == [[one["low"], one["high"]] for one in theta]
    expect(linucb.locator(".bars .interval")).to_have_count(5)


def test_choice_of_the_policy(service: Service, db: Engine, visit: Visit) -> None:
    """The page shows the state of every policy that knows the user, published ones too, and lets one be chosen."""
    simulate(db, days=5, users=["ada"])
    assert service.client.post("/policies", json=calls.publish_policy()).status_code == 201
    path = f"/policies/{calls.ARTICLES}"
    assert service.client.post(f"{path}/score", json=calls.score_articles()).status_code == 200
    page = visit(service, "/dashboard/user?id=ada")
    cards = page.locator("#state article")
    assert sorted(str(card.get_attribute("aria-label")) for card in cards.all()) == sorted(
        [calls.ARTICLES, "egreedy-v1", "linucb-v1"]
    )
    page.locator("#state").get_by_label("Policy", exact=True).select_option(calls.ARTICLES)
    expect(page.locator("#state article:visible")).to_have_count(1)
    labels = [one["label"] for one in service.client.get(f"{path}/users/ada").json()["theta"]]
    assert page.get_by_label(calls.ARTICLES, exact=True).locator(".bars .label").all_inner_texts() == labels


def test_content_of_tips(service: Service, visit: Visit) -> None:
    """A decision shows the content of its tip as text, or only the tip's id if there is no content."""
    for content in ({"content": STRANGE}, {}):
        candidate = {"id": "t1", "source": "todoist", **content}
        assert service.client.post("/score", json=calls.score(candidates=[candidate])).status_code == 200
    page = visit(service, "/dashboard/user?id=ada")
    cells = page.locator("#decisions tbody tr td:nth-child(3)")
    expect(cells).to_have_count(2)
    assert [cell.inner_text().split("\n") for cell in cells.all()] == [["t1"], ["t1", STRANGE]]


def test_decisions_and_receipts(service: Service, db: Engine, visits: Visits) -> None:
    """The page shows a hundred decisions and then older ones; each links to its receipt."""
    simulate(db, days=21, users=["ada"])
    # A receipt is JSON, which has no icon, and Chromium then looks for one at /favicon.ico.
    visits.expected = "404"
    page = visits.open(service, "/dashboard/user?id=ada")
    rows = page.locator("#decisions tbody tr")
    expect(rows).to_have_count(100)
    page.get_by_role("button", name="Older decisions").click()
    expect(rows).to_have_count(126)
    expect(page.get_by_role("button", name="Older decisions")).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "decisions-title"
    times = [row.get_attribute("datetime") for row in page.locator("#decisions tbody th time").all()]
    assert times == sorted(times, key=str, reverse=True)
    latest = service.client.get("/users/ada/decisions", params={"limit": 1}).json()["items"][0]
    link = rows.first.get_by_role("link", name="Receipt")
    assert link.get_attribute("href") == f"{service.url}/users/ada/decisions/{latest['decision_id']}"
    link.click()
    page.wait_for_url("**/users/ada/decisions/*")
    assert latest["decision_id"] in page.locator("body").inner_text()


def test_verify(service: Service, db: Engine, visit: Visit) -> None:
    """The button shows the result of /verify, with and without a difference."""
    simulate(db, days=2, users=["ada"])
    page = visit(service, "/dashboard/user?id=ada")
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("#verify .green")).to_contain_text("Verified")
    expect(page.locator("#verify")).to_contain_text("12 decisions")
    with writing(db) as connection:
        connection.execute(text("UPDATE oo_ml.policy_state SET reward_count = reward_count + 1"))
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("#verify .red")).to_contain_text("Not verified")
    difference = service.client.get("/users/ada/verify").json()["difference"]
    expect(page.locator("#verify")).to_contain_text(difference)
    expect(page.locator("#status")).to_contain_text(difference)


def test_unknown_user(service: Service, visit: Visit) -> None:
    """For an unknown user, or without an id, the page says so."""
    page = visit(service, "/dashboard/user?id=unknown")
    expect(page.locator("#state")).to_contain_text("There is no state for this user")
    expect(page.locator("#decisions")).to_contain_text("There are no decisions for this user.")
    expect(visit(service, "/dashboard/user").locator("#start")).to_contain_text("Enter the id of a user above.")


@pytest.mark.parametrize("user_id", [STRANGE, "egreedy/ada", "a b+c", "\u202eada", "../../etc", "x" * 200, "__proto__"])
def test_special_characters_in_a_user_id(service: Service, visit: Visit, user_id: str) -> None:
    """An id with special characters can be opened, is shown unchanged and verified, and is never executed."""
    decision = service.client.post("/score", json=calls.score(user_id)).json()["decision_id"]
    page = visit(service)
    page.get_by_label("User", exact=True).fill(user_id)
    page.get_by_role("button", name="Open").click()
    page.wait_for_url("**/dashboard/user?id=*")
    wait_until_settled(page)
    assert page.locator("h1").evaluate("heading => heading.textContent") == user_id
    assert page.get_by_label("User", exact=True).input_value() == user_id
    expect(page.get_by_label("linucb-v1", exact=True).locator("dd").first).to_have_text("1")
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("#verify .green")).to_be_visible()
    link = page.locator("#decisions").get_by_role("link", name="Receipt").get_attribute("href")
    assert link == f"{service.url}/users/{quote(user_id, safe=chr(33) + chr(39) + '()*')}/decisions/{decision}"
    assert service.client.get(link).json()["user_id"] == user_id
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    ("user_id", "sentence"), [("..", "No user can have this id."), ("a\x01b", "user_id:"), ("x" * 201, "user_id:")]
)
def test_invalid_user_id(service: Service, visits: Visits, user_id: str, sentence: str) -> None:
    """An invalid id is refused with a message, and no other call is made."""
    visits.expected = "422"
    page = visits.open(service, f"/dashboard/user?id={quote(user_id)}")
    expect(page.locator("main")).to_contain_text(sentence)
