"""The part "Was it worth it?" of the overview, in a real Chromium."""

from dataclasses import replace
from typing import Final

import pytest
from playwright.sync_api import expect
from sqlalchemy import Engine

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from tests.dashboard.conftest import Visit
from tests.dashboard.test_overview import assert_plain, cells, format_reward, percent, rows_of
from tests.dashboard.weeks import EXPLORING, simulate
from tests.serving import Service
from tests.simulated_users import SimulatedUsers

pytestmark = pytest.mark.slow

UNIFORM: Final = "uniform-v1"


def test_lift(service: Service, db: Engine, visit: Visit) -> None:
    """With a hold-out the page shows lift, interval, probability of being best and shares; the CSV has the same."""
    decide(db, [LINUCB, EPSILON_GREEDY, UNIFORM], users=60)
    page = visit(service, "/dashboard?period=all")
    part = page.locator("#lift")
    expect(part.locator("h3").first).to_contain_text(f"Lift over the hold-out {UNIFORM}")
    expect(part.locator(".intervals .row")).to_have_count(2)
    expect(part.locator(".warning")).to_have_count(0)
    expect(part.locator(".shares rect")).to_have_count(3)
    rows = rows_of(service, page, "lift")
    table = cells(part.locator(".scroll").first)
    assert [row[0] for row in table] == [EPSILON_GREEDY, LINUCB, f"{UNIFORM} (hold-out)"]
    for shown, row in zip(table, rows, strict=True):
        assert shown[1:4] == [percent(row["share"]), row["decisions"], row["rewarded"]]
        assert shown[6] == format_reward(row["lift"])
        assert "unknown" not in shown
        assert shown[8].endswith("%")
    assert_plain(page)


def test_learning_of_several_policies(service: Service, db: Engine, visit: Visit) -> None:
    """The learning curve has the two policies with the most decisions, and says that there are more."""
    decide(db, [LINUCB, UNIFORM], users=60)
    decide(db, [EPSILON_GREEDY], users=20)
    learning = visit(service, "/dashboard?period=all").locator("#learning")
    expect(learning).to_contain_text("Drawn are the 2 policies with the most decisions of 3.")
    expect(learning.locator(".legend")).to_contain_text(UNIFORM)
    expect(learning.locator(".legend")).not_to_contain_text(EPSILON_GREEDY)


def test_without_hold_out(service: Service, db: Engine, visit: Visit) -> None:
    """Without a hold-out the page shows the gain over drawing at random, and says how to have a hold-out."""
    decide(db, [LINUCB, EPSILON_GREEDY], users=40)
    part = visit(service, "/dashboard?period=all").locator("#lift")
    expect(part.locator("h3").first).to_contain_text("Gain over drawing at random")
    expect(part.locator(".intervals .row")).to_have_count(2)
    expect(part.locator(".warning")).to_contain_text("no hold-out")
    expect(part.locator(".warning")).to_contain_text("give uniform-v1 a share")


def test_thin_support(service: Service, db: Engine, visit: Visit) -> None:
    """With too few users of the hold-out the lift is unknown, and the page says why."""
    decide(db, [LINUCB, EPSILON_GREEDY], users=40)
    decide(db, [UNIFORM], users=2)
    page = visit(service, "/dashboard?period=all")
    part = page.locator("#lift")
    expect(part.locator(".warning").first).to_contain_text("fewer than")
    expect(part).to_contain_text("No policy can be compared with the hold-out")
    assert [row[6] for row in cells(part.locator(".scroll").first)] == ["unknown", "unknown", "\N{EN DASH}"]
    assert_plain(page)


def test_without_traffic(service: Service, db: Engine, visit: Visit) -> None:
    """If the traffic chose no policy, the page says so, and shows the gain over drawing at random."""
    simulate(db, days=12, parameters=replace(EXPLORING, exploration=0.2))
    part = visit(service).locator("#lift")
    expect(part.locator(".note")).to_contain_text("oo-ml policies traffic")
    expect(part.locator(".intervals .row")).to_have_count(2)
    expect(part.locator(".shares")).to_have_count(0)


def decide(db: Engine, policies: list[str], users: int) -> None:
    """Let the traffic give the policies to users in turn, six decisions with a reward each."""
    simulated = SimulatedUsers(db, 51 + users)
    for number in range(users):
        policy = policies[number % len(policies)]
        parameters = replace(EXPLORING, exploration=1.0 if policy == UNIFORM else 0.3)
        for _ in range(6):
            decision = simulated.decide(
                f"{policy} {number}", policy, ids=["a", "b", "c"], parameters=parameters, share=1 / len(policies)
            )
            simulated.react(decision)
