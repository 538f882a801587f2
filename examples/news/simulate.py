"""Readers of a news site, simulated: the service chooses one of 20 articles for each, and learns what they read."""

import argparse
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

POLICY = "news-v1"
DEFINITION = Path(__file__).with_name("definition.json")
TOPICS = ("politics", "sport", "science", "culture")
TAGS = ("city", "climate", "film", "football", "health", "music", "space", "tax", "trains", "war")
ARTICLES = 20


@dataclass(frozen=True)
class Reader:
    """A user with a topic for the morning, another for the evening, and favourite tags."""

    user_id: str
    morning: str
    evening: str
    tags: frozenset[str]

    def chance(self, article: dict[str, Any], hour: int) -> float:
        """Return the probability that the reader opens an article."""
        features = article["features"]
        is_liked = features["topic"] == (self.morning if math.sin(math.tau * hour / 24) > 0 else self.evening)
        liked_tags = len(self.tags.intersection(features["tags"]))
        chance: float = 0.05 + 0.45 * is_liked + 0.2 * liked_tags - 0.001 * features["age_hours"]
        return min(chance, 0.95)


def make_readers(rng: random.Random, count: int) -> list[Reader]:
    """Return readers with tastes of their own."""
    readers = []
    for number in range(count):
        morning, evening = rng.sample(TOPICS, 2)
        readers.append(Reader(f"reader-{number}", morning, evening, frozenset(rng.sample(TAGS, 2))))
    return readers


def write_articles(rng: random.Random, day: int) -> list[dict[str, Any]]:
    """Return the articles of a day, as candidates."""
    return [
        {
            "id": f"article-{day}-{number}",
            "features": {
                "topic": rng.choice(TOPICS),
                "tags": rng.sample(TAGS, 2),
                "age_hours": rng.randrange(48),
            },
        }
        for number in range(ARTICLES)
    ]


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


def simulate(client: httpx.Client, readers: list[Reader], days: int, rng: random.Random) -> list[tuple[float, float]]:
    """Return, for each day, the share of articles that readers open, and that of articles drawn at random."""
    shares = []
    for day in range(days):
        articles = write_articles(rng, day)
        hours = [rng.choice((8, 20)) for _ in readers]
        decisions = send(
            client,
            "/score/batch",
            [
                {"user_id": reader.user_id, "context": {"hour_of_day": hour}, "candidates": articles}
                for reader, hour in zip(readers, hours, strict=True)
            ],
        )
        rewards, chosen, at_random = [], 0.0, 0.0
        for reader, hour, decision in zip(readers, hours, decisions, strict=True):
            chances = {article["id"]: reader.chance(article, hour) for article in articles}
            chance = chances[decision["tip_id"]]
            rewards.append(
                {
                    "user_id": reader.user_id,
                    "tip_id": decision["tip_id"],
                    "decision_id": decision["decision_id"],
                    "reward": int(rng.random() < chance),
                }
            )
            chosen += chance
            at_random += sum(chances.values()) / ARTICLES
        send(client, "/reward/batch", rewards)
        shares.append((chosen / len(readers), at_random / len(readers)))
    return shares


def main() -> None:
    """Simulate, and print how the share of opened articles grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="http://localhost:8000")
    parser.add_argument("--readers", type=int, default=30)
    parser.add_argument("--days", type=int, default=45)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    readers = make_readers(rng, given.readers)
    with httpx.Client(base_url=given.url, timeout=60, trust_env=False) as client:
        publish(client)
        shares = simulate(client, readers, given.days, rng)
    third = len(shares) // 3
    for name, part in (("first", shares[:third]), ("second", shares[third:-third]), ("last", shares[-third:])):
        chosen, at_random = (sum(column) / len(part) for column in zip(*part, strict=True))
        print(f"{name} third of the days: {chosen:.0%} opened, at random {at_random:.0%}")


if __name__ == "__main__":
    main()
