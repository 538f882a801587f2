"""Reports over HTTP: numbers, filters, pages and CSV."""

import csv
import io
from typing import Any

import numpy as np
import pytest

from oo_ml.api.analytics import endpoints as analytics
from oo_ml.storage.reports import Report
from tests import calls, openapi
from tests.analytics.intervals import build_interval, compute_wilson, find_group
from tests.conftest import Serve
from tests.serving import Service

REPORTS = (
    "reaction-rates",
    "policy-values",
    "policy-lift",
    "policy-traffic-by-day",
    "rewards-by-day",
    "learning-curve",
    "prior-history",
    "learning-by-prior",
    "prompt-costs",
    "loop-health",
)
REWARDS = (1.0, 1.0, 0.5, 0.0, -0.5, -1.0, 0.3, None)


def show(service: Service, version: str | None, reward: float | None, user_id: str = "ada", suffix: str = "") -> str:
    """Have one tip decided on and reacted to; return the decision's id."""
    body = calls.score(user_id)
    body["candidates"] = [{**body["candidates"][0], **({"prompt_version": version} if version else {})}]
    decision = service.client.post(f"/score{suffix}", json=body).json()
    if reward is not None:
        answer = service.client.post(
            f"/reward{suffix}",
            json={"user_id": user_id, "tip_id": "t1", "reward": reward, "decision_id": decision["decision_id"]},
        )
        assert answer.status_code == 200
    return str(decision["decision_id"])


@pytest.fixture
def active_service(service: Service) -> Service:
    """A service that has decided for tips of two versions, by two policies."""
    for reward in REWARDS:
        show(service, "v1", reward)
    show(service, "v2-mentor", 1.0, suffix="/egreedy")
    show(service, None, -1.0)
    return service


def get(service: Service, report: str, **filters: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Ask for a report."""
    answer = service.client.get(f"/analytics/{report}", params=filters)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_reaction_rates(active_service: Service) -> None:
    """A version has its counts, rates and means; one user has no interval; the most shown version comes first."""
    answer = get(active_service, "reaction-rates")
    assert [item["prompt_version"] for item in answer["items"]] == ["v1", "v2-mentor", None]
    v1 = answer["items"][0]
    counts = ("shown", "reacted", "done", "helpful", "snooze", "not_helpful", "dismiss", "other", "rewarded")
    assert [v1[name] for name in counts] == [8, 7, 2, 1, 1, 1, 1, 1, 7]
    assert v1["done_rate"] == pytest.approx(0.25)
    assert (v1["done_low"], v1["done_high"], v1["mean_reward_low"], v1["mean_reward_high"]) == (None,) * 4
    assert v1["mean_reward"] == pytest.approx(1.3 / 7)
    # One candidate has propensity 1, so weighing changes nothing.
    assert v1["weighted_mean_reward"] == pytest.approx(v1["mean_reward"])
    assert v1["done_weighted_rate"] == pytest.approx(v1["done_rate"])
    assert v1["effective_sample_size"] == pytest.approx(8)


def test_intervals(service: Service) -> None:
    """Intervals take users as the sample: eight users with a decision each, two of which were done."""
    users = [f"user {number}" for number in range(8)]
    for user, reward in zip(users, REWARDS, strict=True):
        show(service, "v1", reward, user)
    [v1] = get(service, "reaction-rates")["items"]
    groups = [find_group(user) for user in users]
    is_done = np.array(REWARDS) == 1.0
    expected = compute_wilson(0.25, (is_done - 0.25) / 8, groups, 8)
    assert (v1["done_low"], v1["done_high"]) == pytest.approx(expected)
    rewards = np.array(REWARDS[:-1], dtype=float)
    mean = build_interval("mean_reward", rewards.mean(), (rewards - rewards.mean()) / 7, groups[:-1])
    assert {name: v1[name] for name in mean} == pytest.approx(mean)


def test_filters(active_service: Service) -> None:
    """Reports are filtered by policy, prompt version and day."""
    by_policy = get(active_service, "reaction-rates", by="policy")["items"]
    assert [(item["policy"], item["shown"]) for item in by_policy] == [("linucb-v1", 9), ("egreedy-v1", 1)]
    of_version = get(active_service, "reaction-rates", by="policy", prompt_version="v1")["items"]
    assert [(item["policy"], item["prompt_version"], item["shown"]) for item in of_version] == [("linucb-v1", "v1", 8)]
    of_policy = get(active_service, "reaction-rates", policy="egreedy-v1")["items"]
    assert [(item["prompt_version"], item["shown"]) for item in of_policy] == [("v2-mentor", 1)]
    assert get(active_service, "reaction-rates", until="2001-01-01")["items"] == []
    [day] = get(active_service, "rewards-by-day", prompt_version="v1", policy="")["items"]
    assert (day["shown"], day["exploring"], day["rewarded"]) == (8, False, 7)
    assert [point["decisions"] for point in get(active_service, "learning-curve", policy="linucb-v1")["items"]] == [
        1
    ] * 9
    checks = {(item["check"], item["policy"]): item for item in get(active_service, "loop-health")["items"]}
    assert len(checks) == 12
    assert {item["status"] for item in checks.values()} <= {"green", "unknown"}


@pytest.mark.parametrize("report", REPORTS)
def test_empty_filters(service: Service, report: str) -> None:
    """An empty filter, as forms send it, is valid for the document, and filters nothing."""
    empty = dict.fromkeys(("since", "until", "policy", "prompt_version"), "")
    parameters = openapi.document()["paths"][f"/analytics/{report}"]["get"]["parameters"]
    schemas = {one["name"]: one["schema"] for one in parameters}
    assert [name for name in empty if not openapi.validator(schemas[name]).is_valid("")] == []
    assert get(service, report, **empty) == get(service, report)


def test_all_rates(active_service: Service) -> None:
    """Grouped by nothing, one row has all decisions, or those that match the filters."""
    for filters, shown in (({}, 10), ({"policy": "linucb-v1"}, 9), ({"prompt_version": "v1"}, 8)):
        [row] = get(active_service, "reaction-rates", by="all", **filters)["items"]
        assert row["shown"] == shown
    [row] = get(active_service, "reaction-rates", by="all", policy="egreedy-v1", prompt_version="v2-mentor")["items"]
    assert (row["shown"], row["done_rate"]) == (1, 1)
    assert get(active_service, "reaction-rates", by="all", policy="egreedy-v1", prompt_version="v1")["items"] == []


def test_weighted_rates_without_exploration(serve: Serve) -> None:
    """Without exploration weighted numbers are null with a reason, and the health is amber; raw numbers stay."""
    service = serve(exploration=0, epsilon=0)
    for user in ("ada", "ben", "zoe"):
        tips = [
            {"id": f"t{n}", "content": "x", "source": "llm", "priority": n, "prompt_version": f"v{n}"} for n in (1, 2)
        ]
        body = calls.score(user, candidates=tips)
        for suffix in ("", "/egreedy"):
            assert service.client.post(f"/score{suffix}", json=body).status_code == 200
    for by in ("prompt_version", "policy", "all"):
        for row in get(service, "reaction-rates", by=by)["items"]:
            assert {name for name, value in row.items() if "weighted" in name and value is not None} == set()
            assert row["effective_sample_size"] is None
            assert row["unsupported"] == row["shown"]
            assert row["unknown_because"] == "nothing was drawn at random" or by == "policy"
            assert row["done_rate"] == 0
    values = get(service, "policy-values")["items"]
    assert [(row["policy"], row["gain"], row["unknown_because"]) for row in values] == [
        ("egreedy-v1", None, "nothing was drawn at random"),
        ("linucb-v1", None, "nothing was drawn at random"),
    ]
    health = {(one["check"], one["policy"]): one["status"] for one in get(service, "loop-health")["items"]}
    assert health["unsupported_share", "linucb-v1"] == health["unsupported_share", "egreedy-v1"] == "amber"


def test_values_of_filters(active_service: Service) -> None:
    """/analytics/filters lists each policy and prompt version once, and the first and last day."""
    choices = active_service.client.get("/analytics/filters").json()
    assert choices["policies"] == ["egreedy-v1", "linucb-v1"]
    assert choices["prompt_versions"] == ["v1", "v2-mentor"]
    assert choices["first_day"] == choices["last_day"]


def test_pages(active_service: Service) -> None:
    """The pages of a report give each item once and none is empty; a cursor past the end gives an empty page."""
    whole = get(active_service, "learning-curve")
    pages = [get(active_service, "learning-curve", limit=5)]
    while cursor := pages[-1]["next_cursor"]:
        pages.append(get(active_service, "learning-curve", limit=5, cursor=cursor))
    assert [len(page["items"]) for page in pages] == [5, 5]
    assert [item for page in pages for item in page["items"]] == whole["items"]
    assert whole["next_cursor"] is None
    assert get(active_service, "learning-curve", cursor=12) == {"items": [], "next_cursor": None}


@pytest.mark.parametrize("report", REPORTS)
def test_csv(active_service: Service, report: str) -> None:
    """A report as CSV has the rows and columns of the JSON, with an empty cell for null."""
    items = get(active_service, report)["items"]
    answer = active_service.client.get(f"/analytics/{report}.csv")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert rows == [{name: "" if value is None else str(value) for name, value in item.items()} for item in items]


@pytest.mark.parametrize("report", REPORTS)
def test_empty_database(service: Service, report: str) -> None:
    """Without decisions a report has no items, and checks that need some are unknown."""
    answer = get(service, report)
    if report == "loop-health":
        assert {item["check"]: item["status"] for item in answer["items"]} == {
            "reward_delay_p50": "unknown",
            "reward_delay_p95": "unknown",
            "never_rewarded": "unknown",
            "states_not_finite": "green",
            "partitions_ahead": "green",
            "uncounted": "green",
        }
    else:
        assert answer["items"] == []


@pytest.mark.parametrize(
    ("report", "filters"),
    [
        ("reaction-rates", {"since": "yesterday"}),
        ("reaction-rates", {"since": "0"}),
        ("reaction-rates", {"until": "2026-11-01T00:00:00"}),
        ("reaction-rates", {"by": "user_id"}),
        ("learning-curve", {"limit": 0}),
        ("learning-curve", {"limit": 1001}),
        ("learning-curve", {"cursor": -1}),
        ("learning-curve", {"cursor": "x"}),
        ("learning-curve", {"policy": "linucb-v2"}),
        ("prompt-costs", {"prompt_version": "a\x00b"}),
    ],
)
def test_invalid_filters(service: Service, report: str, filters: dict[str, Any]) -> None:
    """An invalid filter is a 422 that names its parameter."""
    answer = service.client.get(f"/analytics/{report}", params=filters)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][-1] == next(iter(filters))


def test_filter_by_a_published_policy(active_service: Service) -> None:
    """Each published policy is a filter as soon as it is published, in pages and as CSV."""
    for status in (422, 200):
        for suffix in ("", ".csv"):
            answer = active_service.client.get(
                f"/analytics/reaction-rates{suffix}", params={"by": "policy", "policy": calls.ARTICLES}
            )
            assert answer.status_code == status
        active_service.client.post("/policies", json=calls.publish_policy())
    active_service.client.post(f"/policies/{calls.ARTICLES}/score", json=calls.score_articles())
    [row] = get(active_service, "reaction-rates", by="policy", policy=calls.ARTICLES)["items"]
    assert (row["policy"], row["shown"]) == (calls.ARTICLES, 1)


def test_decisions_of_a_user(active_service: Service) -> None:
    """A user's decisions are listed page by page, the latest first, those before a reset too."""
    active_service.client.post("/reset/ada")
    last = show(active_service, "v1", 0.5)
    first = active_service.client.get("/users/ada/decisions", params={"limit": 6}).json()
    rest = active_service.client.get("/users/ada/decisions", params={"limit": 6, "cursor": first["next_cursor"]}).json()
    decisions = first["items"] + rest["items"]
    assert decisions[0]["decision_id"] == last
    assert [decision["reaction"] for decision in decisions] == [
        "helpful", "dismiss", "done", "none", "other", "dismiss", "not_helpful", "snooze", "helpful", "done", "done",
    ]  # fmt: skip
    assert rest["next_cursor"] is None
    assert active_service.client.get("/users/zoe/decisions").json() == {"items": [], "next_cursor": None}


def test_default_rewards(serve: Serve) -> None:
    """Default rewards count as rewards, not as reactions."""
    service = serve(epsilon=0, reward_wait=0.1, default_reward=-0.25, upkeep_interval=0.1)
    show(service, "v1", None)
    while not (item := get(service, "reaction-rates")["items"][0])["rewarded"]:
        pass
    assert (item["shown"], item["reacted"], item["rewarded"], item["mean_reward"]) == (1, 0, 1, -0.25)


FORMULAS = ("=1+1", "+1", "-1+2", "@SUM(A1)", '=LINK("x","y")', "-", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20x")


def test_formulas_in_csv(service: Service) -> None:
    """A cell with a client's text that a spreadsheet would run as a formula begins with an apostrophe."""
    for version in (*FORMULAS, "v1", "v-1=@+"):
        show(service, version, -0.5)
    rows = list(csv.DictReader(io.StringIO(service.client.get("/analytics/reaction-rates.csv").text)))
    assert {row["prompt_version"] for row in rows} == {f"'{version}" for version in FORMULAS} | {"v1", "v-1=@+"}
    assert {row["mean_reward"] for row in rows} == {"-0.5"}
    items = get(service, "reaction-rates")["items"]
    assert {item["prompt_version"] for item in items} == {*FORMULAS, "v1", "v-1=@+"}


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_first_characters_of_formulas(first: str) -> None:
    """Control characters count as the beginning of a formula too, though no client can send them today."""
    made = analytics._csv(  # noqa: SLF001
        Report.PROMPT_COSTS, [{"prompt_version": f"{first}1", "done": -1, "latency_p50_ms": -0.5, "calls": None}]
    )
    [row] = csv.DictReader(io.StringIO(bytes(made.body).decode(), newline=""))
    assert (row["prompt_version"], row["done"], row["latency_p50_ms"], row["calls"]) == (f"'{first}1", "-1", "-0.5", "")
