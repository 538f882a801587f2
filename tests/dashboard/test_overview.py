"""The overview in a real Chromium, with a real service and a real PostgreSQL."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Locator, Page, Route, expect
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy import Engine, text

from tests import calls
from tests.conftest import Serve
from tests.dashboard.conftest import Visit, Visits, wait_until_settled
from tests.dashboard.weeks import simulate
from tests.gateway import Gateway, completion
from tests.serving import Service
from tests.sessions import writing

pytestmark = pytest.mark.slow

UNKNOWN, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


@pytest.fixture
def simulated(service: Service, db: Engine) -> Service:
    """Return a service with the decisions of three users over forty days."""
    simulate(db, days=40)
    return service


def test_overview(simulated: Service, visit: Visit) -> None:
    """The page shows the last 28 days; each part has a heading, a chart or a table, and its CSV."""
    page = visit(simulated)
    expect(page.locator("#period")).to_have_text("27 Oct 2026 to 23 Nov 2026")
    shown = simulated.client.get("/analytics/reaction-rates", params={"since": "2026-10-27"}).json()["items"]
    assert tile(page, "Tips shown") == f"{sum(item['shown'] for item in shown):,}"
    expect(page.locator("#health .verdict")).to_contain_text("checks")
    expect(page.locator("#rates .intervals .row")).to_have_count(4)
    for part in ("rewards", "learning"):
        expect(page.locator(f"#{part} canvas")).to_be_visible()
    charts = page.locator("[role=img]").evaluate_all("all => all.map(one => one.ariaLabel)")
    assert [summary[:20] for summary in charts] == [
        "Done, 4 prompt versi",
        "Mean reward of 2 pol",
        "Gain of 2 policies o",
        "Mean reward by day, ",
        "Mean reward by the n",
    ]


def test_filters_in_the_address(simulated: Service, visit: Visit) -> None:
    """Filters change the address and the numbers; back, reload and links restore them."""
    page = visit(simulated)
    everything = tile(page, "Tips shown")
    page.get_by_label("Policy", exact=True).first.select_option("linucb-v1")
    wait_until_settled(page)
    page.get_by_label("Prompt version", exact=True).first.select_option("v2-mentor")
    wait_until_settled(page)
    page.get_by_label("Period").select_option("7")
    expect(page.locator("#period")).to_have_text("17 Nov 2026 to 23 Nov 2026")
    wait_until_settled(page)
    assert query(page) == "?period=7&policy=linucb-v1&prompt_version=v2-mentor"
    expected = simulated.client.get(
        "/analytics/reaction-rates",
        params={"since": "2026-11-17", "until": "2026-11-23", "policy": "linucb-v1", "prompt_version": "v2-mentor"},
    ).json()["items"]
    filtered = tile(page, "Tips shown")
    assert filtered == str(expected[0]["shown"])
    expect(page.locator("#learning")).to_contain_text("that filter does not apply here")

    page.reload()
    wait_until_settled(page)
    assert tile(page, "Tips shown") == filtered
    assert tile(visit(simulated, f"/dashboard{query(page)}"), "Tips shown") == filtered

    for left in ("?policy=linucb-v1&prompt_version=v2-mentor", "?policy=linucb-v1", ""):
        page.go_back()
        page.wait_for_url(f"**/dashboard{left}")
        wait_until_settled(page)
    assert tile(page, "Tips shown") == everything
    expect(page.get_by_label("Policy", exact=True).first).to_have_value("")
    page.go_forward()
    expect(page.get_by_label("Policy", exact=True).first).to_have_value("linucb-v1")


def test_selected_days(simulated: Service, visit: Visit) -> None:
    """Both days are included, an empty field means no bound, and days in the wrong order are refused in the form."""
    page = visit(simulated)
    page.get_by_label("Period").select_option("days")
    since, until = page.get_by_label("From"), page.get_by_label("To", exact=True)
    assert (since.input_value(), until.input_value()) == ("2026-10-27", "2026-11-23")
    since.fill("2026-11-20")
    until.fill("2026-11-20")
    until.press("Enter")
    expect(page.locator("#period")).to_have_text("20 Nov 2026")
    wait_until_settled(page)
    assert tile(page, "Tips shown") == "18"
    assert query(page) == "?since=2026-11-20&until=2026-11-20"
    until.fill("2026-11-19")
    page.get_by_role("button", name="Show").click()
    assert until.evaluate("field => field.validationMessage") == "The last day is before the first."
    assert query(page) == "?since=2026-11-20&until=2026-11-20"
    until.fill("")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#period")).to_have_text("Since 20 Nov 2026")
    wait_until_settled(page)
    assert tile(page, "Tips shown") == "72"
    page.get_by_role("button", name="Reset filters").click()
    wait_until_settled(page)
    assert query(page) == ""


def test_measures(simulated: Service, visit: Visit) -> None:
    """The choices above the chart are in the address, and only that part is loaded again."""
    page = visit(simulated)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_label("Reaction", exact=True).select_option("mean_reward")
    expect(page.locator("#rates .intervals")).to_have_attribute("aria-label", re.compile("^Mean reward"))
    page.get_by_label("Policy", exact=True).last.check()
    expect(page.locator("#rates .intervals .row")).to_have_count(2)
    wait_until_settled(page)
    assert query(page) == "?measure=mean_reward&by=policy"
    assert {url.split("?")[0] for url in asked if "/analytics/" in url} == {f"{simulated.url}/analytics/reaction-rates"}
    page.go_back()
    expect(page.locator("#rates .intervals .row")).to_have_count(4)


def test_days_without_data(simulated: Service, visit: Visit) -> None:
    """Each part says that there is no data, and the filters stay usable."""
    page = visit(simulated, "/dashboard?since=2001-01-01&until=2001-01-31")
    for part in ("totals", "rates", "rewards", "learning", "priors", "firsts", "costs"):
        expect(page.locator(f"#{part} .nothing")).to_be_visible()
    assert_plain(page)


def test_invalid_filter(simulated: Service, visits: Visits) -> None:
    """The service refuses an invalid filter in the address, and the page shows its message."""
    visits.expected = "422"
    page = visits.open(simulated, "/dashboard?since=yesterday")
    expect(page.locator("#rates .failure")).to_contain_text("since: must be a day, as YYYY-MM-DD")
    page.get_by_role("button", name="Reset filters").click()
    expect(page.locator(".failure")).to_have_count(0)


def test_empty_database(service: Service, visit: Visit) -> None:
    """Without decisions the page says so; it shows numbers after the first decision."""
    page = visit(service)
    expect(page.locator("#start")).to_contain_text("No tip has been shown yet.")
    expect(page.locator("#parts")).to_be_hidden()
    assert_plain(page)
    service.client.post("/score", json=calls.score())
    page.get_by_role("button", name="Reload").click()
    wait_until_settled(page)
    assert tile(page, "Tips shown") == "1"
    assert tile(page, "Mean reward") == UNKNOWN
    for unfolded in page.locator("summary").all():
        unfolded.click()
    assert_plain(page)


def test_database_failure(serve: Serve, db: Engine, database_url: str, visits: Visits) -> None:
    """If the database fails, the page shows an error, keeps the old numbers, and can try again."""
    simulate(db, days=3)
    service = serve(database_connect_timeout=2)
    visits.expected = "503"
    page = visits.open(service)
    assert tile(page, "Tips shown") == "54"
    with refuse_connections(database_url):
        page.get_by_label("Policy", exact=True).first.select_option("linucb-v1")
        wait_until_settled(page)
        for part in ("totals", "health", "rates", "rewards", "learning", "priors", "firsts", "costs"):
            expect(page.locator(f"#{part} .failure")).to_contain_text("The database can't be reached.")
        expect(page.locator("#status")).to_contain_text("could not be loaded")
        page.locator("#rates").get_by_role("button", name="Try again").click()
        wait_until_settled(page)
        expect(page.locator("#rates .failure")).to_be_visible()
        stranger = visits.open(service)
        expect(stranger.locator("#start .failure")).to_contain_text("The database can't be reached.")
    page.locator("#rates").get_by_role("button", name="Try again").click()
    expect(page.locator("#rates .intervals .row")).to_have_count(4)
    assert page.evaluate("document.activeElement.id") == "rates-title"
    expect(page.locator("#rewards .failure")).to_be_visible()
    stranger.get_by_role("button", name="Try again").click()
    expect(stranger.locator("#totals .big").first).to_have_text("54")


def test_timeout(service: Service, visits: Visits) -> None:
    """After two minutes without an answer, the page says so and offers to try again."""
    page = visits.window(service)
    page.clock.install()
    page.route("**/analytics/filters", lambda _: None)
    page.goto(f"{service.url}/dashboard")
    expect(page.locator("#start")).to_have_text("Loading")
    page.clock.fast_forward(119_000)
    expect(page.locator("#start")).to_have_text("Loading")
    page.clock.fast_forward(2_000)
    expect(page.locator("#start")).to_contain_text("The service doesn\N{RIGHT SINGLE QUOTATION MARK}t answer.")
    page.unroute("**/analytics/filters")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#start")).to_contain_text("No tip has been shown yet.")


def test_prefix(simulated: Service, visits: Visits) -> None:
    """Behind a proxy that adds a prefix to paths, all links and calls have the prefix."""
    page = visits.window(simulated)
    prefix = f"{simulated.url}/behind/a/proxy"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.route(f"{prefix}/**", lambda route: through_proxy(route, prefix))
    page.goto(f"{prefix}/dashboard")
    wait_until_settled(page)
    shown = simulated.client.get("/analytics/reaction-rates", params={"since": "2026-10-27"}).json()["items"]
    assert tile(page, "Tips shown") == f"{sum(item['shown'] for item in shown):,}"
    for part in ("health", "rates", "rewards", "learning", "priors", "firsts", "costs"):
        assert page.locator(f"#{part} a.csv").evaluate("link => link.href").startswith(f"{prefix}/analytics/")
    page.get_by_role("textbox", name="User").fill("ada")
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#decisions tbody tr").first).to_be_visible()
    wait_until_settled(page)
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("#verify .verdict")).to_contain_text("Verified")
    page.get_by_role("link", name="Dashboard").click()
    expect(page).to_have_url(f"{prefix}/dashboard")
    wait_until_settled(page)
    assert [url for url in asked if not url.startswith(prefix)] == []


def through_proxy(route: Route, prefix: str) -> None:
    """Answer as a proxy that adds /behind/a/proxy to the paths of the service."""
    service = prefix.removesuffix("/behind/a/proxy")
    route.fulfill(response=route.fetch(url=service + route.request.url.removeprefix(prefix)))


def test_two_hundred_prompt_versions(service: Service, visit: Visit) -> None:
    """The chart has the versions shown most and says how many it omits; the table has all, scrolls and sorts."""
    versions = [f"v{number:03}" for number in range(200)]
    tip = {"id": "t1", "content": "Call the dentist", "source": "llm"}
    items = [
        calls.score(f"user-{time}", candidates=[{**tip, "prompt_version": version}])
        for number, version in enumerate(versions)
        for time in range(1 + number % 9)
    ]
    assert service.client.post("/score/batch", json={"items": items}).status_code == 200
    page = visit(service, "/dashboard?period=all")
    rates = page.locator("#rates")
    expect(rates.locator(".intervals .row")).to_have_count(12)
    expect(rates.locator(".note").first).to_contain_text("It leaves out 188 more")
    rates.get_by_text("Table, 200 rows").click()
    expect(rates.locator("tbody tr")).to_have_count(200)
    assert rates.locator(".scroll").evaluate("box => box.clientHeight < box.scrollHeight && box.clientHeight < 500")
    shown = [int(cell) for cell in rates.locator("tbody td:nth-child(2)").all_inner_texts()]
    assert shown == sorted(shown, reverse=True)
    rates.get_by_role("button", name="Prompt version", exact=True).click()
    assert rates.locator("tbody th").first.inner_text() == "v199"
    rates.get_by_role("button", name="Prompt version", exact=True).click()
    assert rates.locator("tbody th").first.inner_text() == "v000"
    expect(rates.locator("[aria-sort=ascending]")).to_have_count(1)
    assert len(page.get_by_label("Prompt version", exact=True).first.locator("option").all()) == 201


@pytest.mark.parametrize("period", ["7", "all"])
def test_csv(simulated: Service, visit: Visit, period: str) -> None:
    """The CSV of each part has the rows of its table, with the same filters."""
    page = visit(simulated, f"/dashboard?period={period}&measure=helpful")
    for unfolded in page.locator("summary").all():
        unfolded.click()
    assert cells(page.locator("#rates")) == [
        [
            row["prompt_version"] or "not written by a model",
            row["shown"],
            row["helpful"],
            percent(row["helpful_rate"]),
            f"{percent(row['helpful_low'])} to {percent(row['helpful_high'])}",
            *weighted(row),
        ]
        for row in rows_of(simulated, page, "rates")
    ]
    chosen = {"true": "Explored", "false": "Exploited"}
    rewards = rows_of(simulated, page, "rewards")
    assert len(rewards) > 7
    assert [[row[0], row[1], *row[2:5]] for row in cells(page.locator("#rewards"))] == [
        [
            day(row["day"]),
            chosen[row["exploring"].lower()],
            row["shown"],
            row["rewarded"],
            format_reward(row["mean_reward"]),
        ]
        for row in rewards
    ]
    learning = rows_of(simulated, page, "learning")
    assert [[row[1], *row[2:5]] for row in cells(page.locator("#learning"))] == [
        [row["policy"], row["decisions"], row["rewarded"], format_reward(row["mean_reward"])] for row in learning
    ]
    health = rows_of(simulated, page, "health")
    found = [[row[1], row[2]] for row in cells(page.locator("#health"))]
    assert sorted(found) == sorted([row["policy"] or "all", row["status"].capitalize()] for row in health)


def test_prompt_costs(serve: Serve, gateway: Gateway, visit: Visit, db: Engine) -> None:
    """The page shows the calls of the model, their tokens, tokens for each tip that was done, and costs by prices."""
    gateway.script(completion('[{"id": "t1", "content": "Stretch."}]'))
    service = serve(litellm_url=gateway.url)
    assert service.client.post("/generate", json={"user_id": "ada", "n": 1}).json()["prompt_version"] == "v1"
    decision = service.client.post("/score", json=calls.score()).json()["decision_id"]
    reaction = {"user_id": "ada", "tip_id": "t1", "reward": 1.0, "decision_id": decision}
    assert service.client.post("/reward", json=reaction).status_code == 200
    page = visit(service)
    [row] = cells(page.locator("#costs"))
    [said] = rows_of(service, page, "costs")
    assert (row[0], row[1], row[4], row[5], row[8], row[9]) == ("v1", "1", "11", "7", "1", "18")
    assert row[1:6] == [said[name] for name in ("calls", "failed", "retries", "prompt_tokens", "completion_tokens")]
    assert len(row) == 10
    with writing(db) as connection:
        connection.execute(text("INSERT INTO oo_ml.model_prices VALUES ('test-model', '1970-01-01', 1000, 5000)"))
    [row] = cells(visit(service).locator("#costs"))
    assert row[10:] == ["0.046", "0.046"]


def test_special_characters_in_a_version(service: Service, db: Engine, visit: Visit) -> None:
    """A version with special characters is shown unchanged, and can be filtered by."""
    strange = "<img src=x onerror=alert(1)>\"'&/../%00é😀"
    simulate(db, days=1, versions=[strange, "v1"])
    page = visit(service, "/dashboard?period=all")
    rates = page.locator("#rates")
    assert strange in rates.locator(".intervals .label").all_inner_texts()
    rates.get_by_text("Table, 2 rows").click()
    assert strange in rates.locator("tbody th").all_inner_texts()
    page.get_by_label("Prompt version", exact=True).first.select_option(strange)
    wait_until_settled(page)
    assert rates.locator(".intervals .label").all_inner_texts() == [strange]
    page.reload()
    wait_until_settled(page)
    assert rates.locator(".intervals .label").all_inner_texts() == [strange]
    assert page.locator("img").count() == 0


def tile(page: Page, title: str) -> str:
    """Return the number under a title."""
    return page.locator(f".tiles > div:has(dt:text-is('{title}')) .big").inner_text()


def query(page: Page) -> str:
    """Return the query of the address."""
    return str(page.evaluate("location.search"))


def assert_plain(page: Page) -> None:
    """Assert that the page shows no NaN, undefined or similar."""
    assert not re.search(r"NaN|undefined|null|Infinity|\[object", page.locator("body").inner_text())


def cells(part: Locator) -> list[list[str]]:
    """Return the cells of a part's table."""
    return [row.locator("th, td").all_inner_texts() for row in part.locator("tbody tr").all()]


def rows_of(service: Service, page: Page, part: str) -> list[dict[str, Any]]:
    """Return the rows of a part's CSV."""
    link = page.locator(f"#{part}").get_by_role("link", name="CSV").get_attribute("href")
    assert link is not None
    return list(csv.DictReader(io.StringIO(service.client.get(link).text)))


def weighted(row: dict[str, Any]) -> list[str]:
    """Return the weighted cells of a row as the page formats them."""
    if row["unknown_because"]:
        return ["unknown", UNKNOWN, UNKNOWN]
    return [
        percent(row["helpful_weighted_rate"]),
        f"{percent(row['helpful_weighted_low'])} to {percent(row['helpful_weighted_high'])}",
        str(round_as_browser(row["effective_sample_size"], "1")),
    ]


def round_as_browser(number: str, to: str) -> Decimal:
    """Round a decimal number as a browser does: halves away from zero."""
    return Decimal(number).quantize(Decimal(to), ROUND_HALF_UP)


def percent(share: str) -> str:
    """Return a share as the page formats it."""
    return f"{round_as_browser(str(Decimal(share) * 100), '0.1')}%"


def format_reward(reward: str) -> str:
    """Return a reward as the page formats it."""
    if reward == "":
        return UNKNOWN
    value = round_as_browser(reward, "0.01")
    return f"{value:+}".replace("-", MINUS) if value else "0.00"


def day(iso: str) -> str:
    """Return a day as the page formats it."""
    return f"{date.fromisoformat(iso):%-d %b %Y}"


@contextmanager
def refuse_connections(database_url: str) -> Iterator[None]:
    """Make the server end all connections to a database and refuse new ones."""
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(make_conninfo(database_url, dbname="postgres"), autocommit=True) as connection:
        connection.execute(allow.format(sql.Identifier(str(name)), sql.SQL("false")))
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            connection.execute(allow.format(sql.Identifier(str(name)), sql.SQL("true")))
