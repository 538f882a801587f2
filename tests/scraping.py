"""Scraping of /metrics, read as Prometheus reads it."""

from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Scraped:
    """The samples of a scrape.

    Attributes:
        text: the whole answer.
        samples: values by name and labels.
    """

    text: str
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value with exactly these labels; None if there is none."""
        return self.samples.get((name, frozenset(labels.items())))

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the values that have these labels, and any others."""
        return sum(value for (one, has), value in self.samples.items() if one == name and labels.items() <= has)

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values of a label."""
        return {value for one, has in self.samples if one == name for key, value in has if key == label}


def scrape(client: httpx.Client, **headers: str) -> Scraped:
    """Read the metrics."""
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    read = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    # Prometheus refuses a scrape that has a sample twice.
    assert len(read) == len(samples)
    return Scraped(answer.text, read)
