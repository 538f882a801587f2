"""Users of an app, simulated: the service chooses at which hour each gets a notification, or that none is sent."""

import argparse
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

POLICY = "notifications-v1"
DEFINITION = Path(__file__).with_name("definition.json")
HOURS = (8, 12, 17, 21)
# Not to send is a candidate too. Its reward is always 0, so a user who ignores notifications is left in peace.
CANDIDATES: list[dict[str, Any]] = [
    {"id": "none", "features": {"sent": False}},
    *({"id": f"at-{hour}", "features": {"sent": True, "hour_of_day": hour}} for hour in HOURS),
]
OPENED, IGNORED = 1.0, -0.5


@dataclass(frozen=True)
class AppUser:
    """A user with a best hour; a `patient` one opens notifications around it, another one hardly any."""

    user_id: str
    best_hour: int
    is_patient: bool

    def expected_reward(self, candidate: str) -> float:
        """Return the expected reward of a candidate."""
        if candidate == "none":
            return 0.0
        distance = math.cos(math.tau * (int(candidate.removeprefix("at-")) - self.best_hour) / 24)
        chance = 0.5 + 0.4 * distance if self.is_patient else 0.05
        return chance * OPENED + (1 - chance) * IGNORED


def make_users(rng: random.Random, count: int) -> list[AppUser]:
    """Return users; two of three are patient."""
    return [AppUser(f"user-{number}", rng.choice(HOURS), number % 3 != 0) for number in range(count)]


def publish(client: httpx.Client) -> None:
    """Publish the policy, unless it is published already."""
    answer = client.post("/policies", json={"policy": POLICY, "definition": json.loads(DEFINITION.read_text("utf-8"))})
    if answer.status_code != httpx.codes.CONFLICT:
        answer.raise_for_status()


def send(client: httpx.Client, path: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send a batch, and return the answers."""
    answer = client.post(path, json={"items": [item | {"policy": POLICY} for item in items]})
    outcomes = answer.raise_for_status().json()["outcomes"]
    return [outcome["body"] for outcome in outcomes]


def react(rng: random.Random, user: AppUser, candidate: str) -> float:
    """Return a reward with the expectation of the user's for the candidate."""
    if candidate == "none":
        return 0.0
    chance = (user.expected_reward(candidate) - IGNORED) / (OPENED - IGNORED)
    return OPENED if rng.random() < chance else IGNORED


def simulate(client: httpx.Client, users: list[AppUser], days: int, rng: random.Random) -> list[tuple[float, float]]:
    """Return, for each day, the mean expected reward of the choices, and that of drawing at random."""
    means = []
    for day in range(days):
        context = {"is_weekend": day % 7 >= 5}  # noqa: PLR2004 - Saturday and Sunday
        body = {"context": context, "candidates": CANDIDATES}
        decisions = send(client, "/score/batch", [body | {"user_id": user.user_id} for user in users])
        rewards = [
            {
                "user_id": user.user_id,
                "tip_id": decision["tip_id"],
                "decision_id": decision["decision_id"],
                "reward": react(rng, user, decision["tip_id"]),
            }
            for user, decision in zip(users, decisions, strict=True)
        ]
        send(client, "/reward/batch", rewards)
        chosen = sum(user.expected_reward(decision["tip_id"]) for user, decision in zip(users, decisions, strict=True))
        at_random = sum(user.expected_reward(one["id"]) for user in users for one in CANDIDATES) / len(CANDIDATES)
        means.append((chosen / len(users), at_random / len(users)))
    return means


def main() -> None:
    """Simulate, and print how the mean reward grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="http://localhost:8000")
    parser.add_argument("--users", type=int, default=30)
    parser.add_argument("--days", type=int, default=45)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    users = make_users(rng, given.users)
    with httpx.Client(base_url=given.url, timeout=60, trust_env=False) as client:
        publish(client)
        means = simulate(client, users, given.days, rng)
    third = len(means) // 3
    for name, part in (("first", means[:third]), ("second", means[third:-third]), ("last", means[-third:])):
        chosen, at_random = (sum(column) / len(part) for column in zip(*part, strict=True))
        print(f"{name} third of the days: mean reward {chosen:+.2f}, at random {at_random:+.2f}")


if __name__ == "__main__":
    main()
