"""Users with to-do lists, simulated: the service chooses which to-do each is reminded of."""

import argparse
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

POLICY = "todo-v1"
DEFINITION = Path(__file__).with_name("definition.json")
HOURS = (8, 13, 20)
TODOS = 8
DONE, SKIPPED = 1.0, -0.5


@dataclass(frozen=True)
class ListUser:
    """A user who does short tasks late and long ones early, as all do, and has a taste for urgent ones."""

    user_id: str
    urgency: float

    def chance(self, hour: int, todo: dict[str, Any]) -> float:
        """Return the probability that the user does a to-do at this hour."""
        is_short = 1 - todo["minutes"] / 60
        is_late = -math.cos(math.tau * (hour - 20) / 24 + math.pi)
        liked = 1.2 * is_short * is_late + self.urgency * (todo["is_overdue"] + (todo["priority"] - 2.5) / 3)
        return 1 / (1 + math.exp(-2 * liked))


def make_users(rng: random.Random, first: int, count: int) -> list[ListUser]:
    """Return users with the numbers from `first` on."""
    return [ListUser(f"todo-{number}", rng.gauss(0.5, 0.5)) for number in range(first, first + count)]


def make_todos(rng: random.Random) -> list[dict[str, Any]]:
    """Return the list of a user on one day."""
    return [
        {
            "is_overdue": rng.random() < 0.3,  # noqa: PLR2004 - a share
            "priority": rng.randint(1, 4),
            "minutes": rng.choice((5, 15, 30, 60, 90, 120)),
        }
        for _ in range(TODOS)
    ]


def publish(client: httpx.Client) -> None:
    """Publish the policy, unless it is published already."""
    answer = client.post("/policies", json={"policy": POLICY, "definition": json.loads(DEFINITION.read_text("utf-8"))})
    if answer.status_code != httpx.codes.CONFLICT:
        answer.raise_for_status()


def send(client: httpx.Client, path: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send a batch, and return the answers."""
    answer = client.post(path, json={"items": items})
    outcomes = answer.raise_for_status().json()["outcomes"]
    return [outcome["body"] for outcome in outcomes]


def simulate(client: httpx.Client, users: list[ListUser], days: int, rng: random.Random) -> list[tuple[float, float]]:
    """Return, for each day, the mean chance that the chosen to-dos are done, and that of drawing at random."""
    means = []
    for day in range(days):
        hour = HOURS[day % len(HOURS)]
        lists = [make_todos(rng) for _ in users]
        decisions = send(
            client,
            "/score/batch",
            [
                {
                    "policy": POLICY,
                    "user_id": user.user_id,
                    "context": {"hour_of_day": hour},
                    "candidates": [{"id": str(place), "features": todo} for place, todo in enumerate(todos)],
                }
                for user, todos in zip(users, lists, strict=True)
            ],
        )
        chances = [[user.chance(hour, todo) for todo in todos] for user, todos in zip(users, lists, strict=True)]
        chosen = [own[int(one["tip_id"])] for own, one in zip(chances, decisions, strict=True)]
        rewards = [
            {
                "user_id": user.user_id,
                "tip_id": one["tip_id"],
                "decision_id": one["decision_id"],
                "reward": DONE if rng.random() < chance else SKIPPED,
            }
            for user, one, chance in zip(users, decisions, chosen, strict=True)
        ]
        send(client, "/reward/batch", rewards)
        at_random = sum(map(sum, chances)) / TODOS
        means.append((sum(chosen) / len(users), at_random / len(users)))
    return means


def main() -> None:
    """Simulate, and print how the share of to-dos that are done grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="http://localhost:8000")
    parser.add_argument("--users", type=int, default=30)
    parser.add_argument(
        "--first-user", type=int, default=0, help="number of the first user: other numbers are new users"
    )
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    users = make_users(rng, given.first_user, given.users)
    with httpx.Client(base_url=given.url, timeout=60, trust_env=False) as client:
        publish(client)
        means = simulate(client, users, given.days, rng)
    third = len(means) // 3
    for name, part in (("first", means[:third]), ("second", means[third:-third]), ("last", means[-third:])):
        chosen, at_random = (sum(column) / len(part) for column in zip(*part, strict=True))
        print(f"{name} third of the days: {chosen:.0%} done, {at_random:.0%} at random")


if __name__ == "__main__":
    main()
