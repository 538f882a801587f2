"""A state machine of two users on a real service, compared with a reference model after every step."""

import asyncio
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import httpx
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Engine

from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB
from oo_ml.execution.pool import Pool
from oo_ml.services.audit.verify import verify
from oo_ml.services.upkeep.default_rewards import give_default_rewards
from oo_ml.services.walk_users import walk_all
from oo_ml.storage import policy_state
from oo_ml.storage.postgres.sessions import Writing
from tests.conftest import make_settings
from tests.services.lives.reference_user import POOLED, Answer, ReferenceUser
from tests.services.reference_policies import ALPHA, EXPLORATIONS, PATH_SUFFIXES, Json, are_close
from tests.serving import Service, serving
from tests.sessions import writing

SETTINGS: Final = make_settings(alpha=ALPHA, exploration=EXPLORATIONS[LINUCB], epsilon=EXPLORATIONS[EPSILON_GREEDY])
# Makes every open decision overdue. Upkeep looks an hour back, so that later decisions are still found.
AHEAD: Final = timedelta(minutes=30)
TIPS: Final = ("t1", "tip/2 ż", "t3")

names = st.sampled_from(("ada", "a/b é%"))
policies = st.sampled_from((LINUCB, EPSILON_GREEDY))
deciding = st.sampled_from((LINUCB, EPSILON_GREEDY, POOLED))
values = st.sampled_from((1.0, 0.5, 0.3, 0.0, -1.0))
tips = st.sampled_from(TIPS)
hours, weekdays = st.sampled_from((0, 9, 17)), st.sampled_from((0, 2, 6))
keys = st.none() | st.sampled_from(("one", "two"))
tasks = st.fixed_dictionaries(
    {
        "is_overdue": st.booleans(),
        "task_age_days": st.sampled_from((0.0, 2.5, -3.0, 45.0)),
        "priority": st.integers(1, 4),
    }
)
questions = st.fixed_dictionaries(
    {
        "candidates": st.lists(
            st.fixed_dictionaries({"id": tips, "content": st.just("c"), "source": st.just("s"), "features": tasks}),
            min_size=1,
            max_size=4,
        ),
        "context": st.fixed_dictionaries({"hour_of_day": hours, "day_of_week": weekdays}),
    }
)
# Ids of random times since 2025: neither their order nor their month is that of the decisions.
ids = st.builds(
    lambda moment, rest: str(UUID(int=moment << 80 | 7 << 76 | 2 << 62 | rest)),
    st.integers(1_735_689_600_000, 1_793_000_000_000),
    st.integers(0, 2**62 - 1),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a decision, and the decision's id."""

    name: str
    policy: str
    body: Json
    decision_id: str


@dataclass(frozen=True, slots=True)
class Reacted:
    """A reward, as it was sent."""

    name: str
    policy: str
    body: Json
    key: str | None


class Stage:
    """The service that all lives share, and the upkeep task that gives default rewards."""

    def __init__(self, url: str, db: Engine, worker: Pool[Writing], running: ExitStack) -> None:
        self.db = db
        self.worker = worker
        self.numbers = count()
        self.seen: Counter[str] = Counter()
        self._url = url
        self._running = running
        self.service = self.start()

    def restart(self) -> None:
        """Stop the service, and start another one on the same database."""
        self.stop()
        self.service = self.start()

    def start(self) -> Service:
        """Start another service on the same database."""
        return self._running.enter_context(serving(SETTINGS, self._url))

    def stop(self) -> None:
        """Stop every service."""
        self._running.close()

    def give_defaults(self, reward: float, ahead: timedelta = AHEAD) -> int:
        """Run upkeep with a clock that is `ahead`; return how many open decisions got the default reward."""
        wait = timedelta(minutes=1)
        given = make_settings(reward_wait=wait.total_seconds(), default_reward=reward)
        defaults = asyncio.run(give_default_rewards(self.worker, given, datetime.now(UTC) + wait + ahead))
        assert not defaults.is_busy
        return defaults.given


def parse_answer(response: httpx.Response) -> Answer:
    """Return the status, and the body or the code of the refusal; for an erasure, the tables that had rows."""
    body = response.json()
    if response.status_code != 200:
        return response.status_code, body["code"]
    if "erased" in body:
        body["erased"] = {table: rows for table, rows in body["erased"].items() if rows}
    return 200, body


class Life(RuleBasedStateMachine):
    """The calls of clients and operators about two users."""

    stage: Stage
    asked: Bundle[Asked] = Bundle("asked")
    reacted: Bundle[Reacted] = Bundle("reacted")

    def __init__(self) -> None:
        super().__init__()
        number = next(self.stage.numbers)
        self.users = {name: ReferenceUser(f"{name} {number}") for name in ("ada", "a/b é%")}
        self.recent: list[tuple[ReferenceUser, str]] = []
        self.calls = 0
        self.was_restarted = False

    @property
    def longest(self) -> ReferenceUser:
        """The user with the most decisions."""
        return max(self.users.values(), key=lambda user: len(user.decisions))

    @initialize(target=asked, policy=deciding, body=questions, decision_id=ids)
    def begin(self, policy: str, body: Json, decision_id: str) -> Asked:
        """Create the users."""
        named = {"user_id": self.users["ada"].user_id, "decision_id": decision_id}
        return self.ask("score", "ada", policy, body | named)

    @rule(target=asked, name=names, policy=deciding, body=questions, decision_id=ids)
    def score(self, name: str, policy: str, body: Json, decision_id: str) -> Asked:
        """Ask for a decision with an id of the client."""
        body = body | {"user_id": self.users[name].user_id, "decision_id": decision_id}
        return self.ask("score", name, policy, body)

    @rule(target=asked, name=names, policy=deciding, body=questions)
    def score_nameless(self, name: str, policy: str, body: Json) -> Asked:
        """Ask for a decision with an id of the service."""
        return self.ask("score nameless", name, policy, body | {"user_id": self.users[name].user_id})

    @rule(asked=asked)
    def score_again(self, asked: Asked) -> None:
        """Repeat the request for a decision, with the id that it has."""
        self.ask("score again", asked.name, asked.policy, asked.body | {"decision_id": asked.decision_id})

    @rule(asked=asked, policy=deciding, body=st.just({}) | questions)
    def score_otherwise(self, asked: Asked, policy: str, body: Json) -> None:
        """Ask with the same id, perhaps for other candidates or another policy."""
        self.ask("score otherwise", asked.name, policy, asked.body | body | {"decision_id": asked.decision_id})

    @rule(target=reacted, asked=asked, policy=policies, value=values, tip=st.none() | tips, key=keys)
    def reward(self, asked: Asked, policy: str, value: float, tip: str | None, key: str | None) -> Reacted:
        """Send a reward for a decision, mostly with its own tip."""
        user = self.users[asked.name]
        decision = user.decisions.get(asked.decision_id)
        tip_id = tip or (TIPS[0] if decision is None else decision.receipt["tip_id"])
        body = {"user_id": user.user_id, "tip_id": tip_id, "reward": value, "decision_id": asked.decision_id}
        return self.send(Reacted(asked.name, policy, body, key), "reward")

    @rule(
        target=reacted,
        name=names,
        policy=policies,
        value=values,
        tip=tips,
        task=tasks,
        hour=hours,
        weekday=weekdays,
        key=keys,
    )
    def reward_tip(
        self, name: str, policy: str, value: float, tip: str, task: Json, hour: int, weekday: int, key: str | None
    ) -> Reacted:
        """Send a reward for a tip, without naming a decision."""
        body = {
            "user_id": self.users[name].user_id,
            "tip_id": tip,
            "reward": value,
            "features": task | {"hour_of_day": hour},
            "day_of_week": weekday,
        }
        return self.send(Reacted(name, policy, body, key), "reward tip")

    @rule(reacted=reacted)
    def reward_again(self, reacted: Reacted) -> None:
        """Repeat a reward."""
        self.send(reacted, "reward again")

    @rule(asked=asked, value=st.none() | values)
    def correct(self, asked: Asked, value: float | None) -> None:
        """Amend or retract the reward of a decision."""
        user = self.users[asked.name]
        expected = user.correct(asked.decision_id, value)
        path = f"/users/{quote(user.user_id, safe='')}/decisions/{asked.decision_id}/reward"
        if value is None:
            self._call("retract", "DELETE", path, expected)
        else:
            self._call("amend", "PUT", path, expected, json={"reward": value})
        self._note(user, "retract" if value is None else "amend", expected)

    @precondition(lambda self: self.calls > 3)
    @rule()
    def reset(self) -> None:
        """Reset a user."""
        user = self.longest
        self._call("reset", "POST", f"/reset/{quote(user.user_id, safe='')}", (200, {"ok": True}))
        user.reset()
        self.calls = 0

    @precondition(lambda self: self.calls > 4)
    @rule()
    def erase(self) -> None:
        """Erase a user; later calls may create the user again."""
        user = self.longest
        self._call("erase", "DELETE", f"/users/{quote(user.user_id, safe='')}", user.erase())
        self.calls = 0

    @precondition(lambda self: self.calls > 1)
    @rule(value=values)
    def default(self, value: float) -> None:
        """Give every open decision the default reward."""
        due = [
            (user, decision_id)
            for user in self.users.values()
            for decision_id, decision in user.decisions.items()
            if decision.kind is None
        ]
        self._same(self.stage.give_defaults(value), sum(user.default(value) for user in self.users.values()))
        self.recent += due
        self.calls = 0
        self.stage.seen["default"] += bool(due)

    @precondition(lambda self: self.calls > 2 and not self.was_restarted)
    @rule()
    def restart(self) -> None:
        """Restart the service."""
        self.stage.restart()
        self.was_restarted = True
        self.stage.seen["restart"] += 1

    @invariant()
    def verify_all(self) -> None:
        """Verify each user, and all users."""
        for user in self.users.values():
            self._same(self._get(user, "/users/{}/verify"), user.read_verification())
        reports = list(walk_all(self.stage.db, SETTINGS, verify).parts)
        self._same([report.difference for report in reports], [None] * len(reports))

    @invariant()
    def compare_rows(self) -> None:
        """Compare stats, recent decisions and stored states with the model."""
        for user in self.users.values():
            with writing(self.stage.db) as connection:
                stored = policy_state.read_states(connection, user.user_id)
            self._same(sorted(stored), sorted(user.epochs))
            for policy, state in stored.items():
                columns = {name: getattr(state, name, None) for name in user.state(policy)}
                sums = {"a": state.evidence.A.tolist(), "b": state.evidence.b.tolist()}
                known = columns | sums | {"touched": state.last_updated is not None}
                self._same(known, user.state(policy))
            for policy, door in PATH_SUFFIXES.items():
                stats = self._get(user, f"/stats{door}/{{}}")
                self._same(stats.pop("last_updated") is not None, user.state(policy)["touched"])
                self._same(stats, user.stats(policy))
            history = [
                {name: value for name, value in entry.items() if name != "ts"}
                for entry in self._get(user, "/features/{}")["history"]
            ]
            self._same(history, user.features())

    @invariant()
    def compare_receipts(self) -> None:
        """Compare the receipts of changed decisions, and of each user's first one, with the model."""
        firsts = [(user, next(iter(user.decisions))) for user in self.users.values() if user.decisions]
        for user, decision_id in [*self.recent, *firsts]:
            if decision_id not in user.decisions:
                continue
            shown = self._get(user, f"/users/{{}}/decisions/{decision_id}")
            self._same(shown.pop("rewarded_at") is None, shown["reward"] is None)
            times = [shown.pop("decided_at"), *(change.pop("recorded_at") for change in shown["rewards"])]
            self._same([time is None for time in times], [False] * len(times))
            self._same(shown, user.receipt(decision_id))
        self.recent.clear()

    def teardown(self) -> None:
        """Erase the users."""
        for user in self.users.values():
            self.stage.service.client.delete(f"/users/{quote(user.user_id, safe='')}")
            self._same(self._get(user, "/users/{}/verify"), ReferenceUser(user.user_id).read_verification())

    def ask(self, what: str, name: str, policy: str, body: Json) -> Asked:
        """Ask for a decision."""
        user = self.users[name]
        if policy == POOLED:
            # Its candidates have no source.
            candidates = [{name: one[name] for name in ("id", "content", "features")} for one in body["candidates"]]
            response = self.stage.service.client.post(
                f"/policies/{POOLED}/score", json=body | {"candidates": candidates}
            )
        else:
            response = self.stage.service.client.post(f"/score{PATH_SUFFIXES[policy]}", json=body)
        decision_id = body.get("decision_id") or response.json()["decision_id"]
        shown = self._get(user, f"/users/{{}}/decisions/{decision_id}")
        self._compare(what, response, user.score(policy, body, shown))
        self.recent.append((user, decision_id))
        return Asked(name, policy, body, decision_id)

    def send(self, reacted: Reacted, what: str) -> Reacted:
        """Send a reward."""
        user = self.users[reacted.name]
        headers = {} if reacted.key is None else {"Idempotency-Key": reacted.key}
        expected = user.reward(reacted.policy, reacted.body, reacted.key)
        self._call(
            what, "POST", f"/reward{PATH_SUFFIXES[reacted.policy]}", expected, json=reacted.body, headers=headers
        )
        self._note(user, what, expected)
        return reacted

    def _note(self, user: ReferenceUser, what: str, expected: Answer) -> None:
        """Record the decision that a reward went to, and whether it is from before a reset."""
        decision_id = expected[1]["decision_id"] if expected[0] == 200 else None
        if decision_id not in user.decisions:
            return
        self.recent.append((user, decision_id))
        decision = user.decisions[decision_id]
        if decision.epoch != user.epochs[decision.policy] and expected[1]["applied"]:
            self.stage.seen[f"{what}, late"] += 1
        if decision.kind == "amend" and len(decision.changes) > 1 and decision.changes[-2]["kind"] == "default":
            self.stage.seen[f"{what}, over a default"] += 1

    def _get(self, user: ReferenceUser, path: str) -> Any:  # noqa: ANN401 - JSON
        response = self.stage.service.client.get(path.format(quote(user.user_id, safe="")))
        assert response.status_code == 200, response.text
        return response.json()

    def _call(self, what: str, method: str, path: str, expected: Answer, **content: Any) -> None:  # noqa: ANN401
        self._compare(what, self.stage.service.client.request(method, path, **content), expected)

    def _compare(self, what: str, response: httpx.Response, expected: Answer) -> None:
        status, said = found = parse_answer(response)
        self._same((what, found), (what, expected))
        self.calls += 1
        detail = {True: "applied", False: "not applied", None: ""}[said.get("applied")] if status == 200 else said
        self.stage.seen[f"{what}: {status} {detail}".strip()] += 1

    def _same(self, found: object, expected: object) -> None:
        assert are_close(found, expected), f"expected {expected}, found {found}"
