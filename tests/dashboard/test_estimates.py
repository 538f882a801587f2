"""The overview shows what is unknown as unknown, compares what can be compared, and says which filter it ignores."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Final

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from tests import calls
from tests.dashboard.conftest import Visit, wait_until_settled
from tests.dashboard.test_overview import cells, format_reward, percent, rows_of
from tests.dashboard.weeks import EXPLORING, LAST, simulate
from tests.serving import Service

pytestmark = pytest.mark.slow

DOTS: Final = "Too few rewards for a line"
# Elements that hide a part of their content.
CUT: Final = """() => [...document.querySelectorAll("main *")]
    .filter((one) => one.clientWidth > 0 && !one.closest(".unseen, caption"))
    .filter((one) => getComputedStyle(one).overflowX !== "visible" && one.scrollWidth > one.clientWidth + 1)
    .map((one) => `${one.tagName}.${one.className}: ${one.textContent.slice(0, 80)}`)"""


def test_no_exploration(service: Service, db: Engine, visit: Visit) -> None:
    """Without exploration no weighted number is shown; the page says why, and how to change it."""
    simulate(db, days=12, parameters=replace(EXPLORING, exploration=0.0, epsilon=0.0))
    page = visit(service)
    rates = page.locator("#rates")
    assert rates.locator(".values .weighted").all_inner_texts() == ["unknown"] * 4
    expect(rates.locator(".mark.raw")).to_have_count(4)
    expect(rates.locator(".mark.weighted")).to_have_count(0)
    expect(rates.locator(".warning")).to_have_text(
        "Unknown: nothing was drawn at random. To change that, set OO_ML_EXPLORATION (linucb-v1) and OO_ML_EPSILON"
        " (egreedy-v1) above 0, such as 0.1, and choose days from then on, or filter by a policy that explores already."
    )
    assert {row[8 - 1] for row in unfold_table(page, "rates")} == {"\N{EN DASH}"}
    expect(page.locator("#policies .warning")).to_have_count(2)
    expect(page.locator("#policies .mark.weighted")).to_have_count(0)
    expect(page.locator("#health .verdict")).to_contain_text("Amber: of 12 checks, 2 amber")


def test_one_policy_without_exploration(service: Service, db: Engine, visit: Visit) -> None:
    """Of two policies one explores: filtered by it, the weighted rates are there."""
    simulate(db, days=28, parameters=replace(EXPLORING, exploration=0.0, epsilon=0.5))
    page = visit(service)
    expect(page.locator("#rates .warning")).to_contain_text(
        "in more than 5 % of the decisions some candidate had no chance"
    )
    expect(page.locator("#policies .warning")).to_contain_text("Unknown for linucb-v1: nothing was drawn at random.")
    page.get_by_label("Policy", exact=True).first.select_option(EPSILON_GREEDY)
    wait_until_settled(page)
    expect(page.locator("#rates .warning")).to_have_count(0)
    expect(page.locator("#rates .mark.weighted")).to_have_count(4)
    page.get_by_label("Policy", exact=True).first.select_option(LINUCB)
    wait_until_settled(page)
    expect(page.locator("#rates .warning")).to_contain_text("set OO_ML_EXPLORATION (linucb-v1) above 0")


def test_policies(service: Service, db: Engine, visit: Visit) -> None:
    """By policy the chart has raw rates only; the panel of policies has each one's gain over drawing at random."""
    simulate(db, days=28, parameters=replace(EXPLORING, exploration=0.3, epsilon=0.3))
    page = visit(service, "/dashboard?by=policy")
    expect(page.locator("#rates .mark.raw")).to_have_count(2)
    expect(page.locator("#rates .mark.weighted")).to_have_count(0)
    expect(page.locator("#rates .key.weighted")).to_be_hidden()
    assert len(unfold_table(page, "rates")[0]) == 5
    rows = rows_of(service, page, "policies")
    assert [row["policy"] for row in rows] == [EPSILON_GREEDY, LINUCB]
    assert cells(page.locator("#policies")) == [
        [
            row["policy"],
            row["rewarded"],
            *[
                text
                for stem in ("mean_reward", "random_mean_reward", "gain")
                for text in (
                    format_reward(row[stem]),
                    f"{format_reward(row[f'{stem}_low'])} to {format_reward(row[f'{stem}_high'])}",
                )
            ],
        ]
        for row in rows
    ]


def test_ignored_filters(service: Service, db: Engine, visit: Visit) -> None:
    """A filter holds for every part that asks for it, and every other part says that it does not."""
    simulate(db, days=3)
    page = visit(service)
    for label, name, value in (("Policy", "policy", LINUCB), ("Prompt version", "prompt_version", "v1")):
        page.get_by_label(label, exact=True).first.select_option(value)
        wait_until_settled(page)
        for part in ("health", "rates", "policies", "lift", "rewards", "learning", "costs"):
            is_filtered = f"{name}={value}" in str(page.locator(f"#{part} a.csv").get_attribute("href"))
            says = page.locator(f"#{part} .note", has_text="filter does not apply")
            # The checks of a policy are filtered, the checks of all policies are not.
            assert (says.count() > 0) is (not is_filtered or (part, name) == ("health", "policy")), (part, name)
        page.get_by_role("button", name="Reset filters").click()
        wait_until_settled(page)


def test_period_before(service: Service, db: Engine, visit: Visit) -> None:
    """A tile has its interval, and the number of the period before, as far as there are days."""
    simulate(db, days=40)
    for period, days, before in ((7, 7, "7 days before"), (28, 12, "12 days before"), (39, 1, "1 day before")):
        last = LAST.date() - timedelta(days=period)
        page = visit(service, f"/dashboard?period={period}")
        [now] = get_sum(service, LAST.date() - timedelta(days=period - 1), LAST.date())
        [then] = get_sum(service, last - timedelta(days=days - 1), last)
        assert read_tile(page, "Tips shown")[:3] == [f"{now['shown']:,}", before, str(then["shown"])]
        for title, stem in (("Reacted to", "reacted"), ("Done", "done")):
            assert read_tile(page, title)[:5] == [
                percent(now[f"{stem}_rate"]),
                f"{percent(now[f'{stem}_low'])} to {percent(now[f'{stem}_high'])} (95% interval)",
                before,
                percent(then[f"{stem}_rate"]),
                f"{percent(then[f'{stem}_low'])} to {percent(then[f'{stem}_high'])}",
            ]
    page = visit(service, "/dashboard?period=all")
    expect(page.locator("#totals")).not_to_contain_text("before")


def test_few_rewards(service: Service, db: Engine, visit: Visit) -> None:
    """Means of one or two rewards are dots without a line; with more rewards there are lines."""
    for user in ("ada", "ben"):
        for suffix in ("", "/egreedy"):
            decision = service.client.post(f"/score{suffix}", json=calls.score(user)).json()
            reward = {
                "user_id": user,
                "tip_id": decision["tip_id"],
                "reward": 1.0,
                "decision_id": decision["decision_id"],
            }
            assert service.client.post(f"/reward{suffix}", json=reward).status_code == 200
    page = visit(service, "/dashboard?period=all")
    for part in ("rewards", "learning"):
        expect(page.locator(f"#{part} .legend")).to_contain_text(DOTS)
        expect(page.locator(f"#{part} canvas")).to_be_visible()
    simulate(db, days=8, users=[f"user-{number}" for number in range(9)])
    page = visit(service, f"/dashboard?until={LAST.date()}")
    expect(page.locator("#learning canvas")).to_be_visible()
    expect(page.locator("#learning .legend")).not_to_contain_text(DOTS)


def test_weeks(service: Service, db: Engine, visit: Visit) -> None:
    """Ninety days are drawn by week, with the week's days beside the pointer; the table keeps the days."""
    simulate(db, days=92, a_day=2)
    page = visit(service, "/dashboard?period=90")
    rewards = page.locator("#rewards")
    expect(rewards.locator(".note")).to_contain_text("Drawn by week")
    rewards.scroll_into_view_if_needed()
    # The seventh of fourteen Mondays.
    box = rewards.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 6 / 13, box["y"] + box["height"] / 2)
    expect(rewards.locator(".tip")).to_contain_text("5 Oct 2026 to 11 Oct 2026")
    assert len({row[0] for row in unfold_table(page, "rewards")}) == 90
    page = visit(service, "/dashboard?period=28")
    expect(page.locator("#rewards .note")).to_have_count(0)


def test_nothing_is_cut(service: Service, db: Engine, visit: Visit) -> None:
    """At 1280 pixels no element hides a part of its content, with long names and with everything unfolded."""
    long = "v2-a-version-with-a-rather-long-name-that-has-to-go-somewhere"
    simulate(db, days=60, versions=[None, "v1", long])
    for query in ("", "?period=90", "?by=policy&measure=mean_reward", f"?policy={LINUCB}&prompt_version={long}"):
        page = visit(service, f"/dashboard{query}")
        for summary in page.locator("summary").all():
            summary.click()
        assert page.evaluate(CUT) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def unfold_table(page: Page, part: str) -> list[list[str]]:
    """Unfold the table of a part, and return its cells."""
    page.locator(f"#{part} summary").click()
    return cells(page.locator(f"#{part}"))


def get_sum(service: Service, since: date, until: date) -> list[dict[str, str]]:
    """Return the row of all decisions of a period; numbers as text, as in CSV."""
    answer = service.client.get(
        "/analytics/reaction-rates", params={"by": "all", "since": str(since), "until": str(until)}
    )
    return [
        {name: value if name == "shown" else str(value) for name, value in row.items()}
        for row in answer.json()["items"]
    ]


def read_tile(page: Page, title: str) -> list[str]:
    """Return the lines of the tile with a title, without the title."""
    return page.locator(f".tiles > div:has(dt:text-is('{title}'))").inner_text().splitlines()[1:]
