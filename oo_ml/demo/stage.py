"""What every part of the demo works with, and how far a long step has come."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
import numpy as np
from rich.console import Console

from oo_ml.demo.people import Person
from oo_ml.progress import progress

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stage:
    """The service, the people, the source of every random draw, and where to print."""

    http: httpx.Client
    people: Sequence[Person]
    rng: np.random.Generator
    console: Console


def steps(console: Console, what: str, items: Sequence[T]) -> Iterator[T]:
    """Yield `items`, showing how many are done."""
    with progress(console, what, len(items), lines=8) as advance:
        for item in items:
            yield item
            advance(1)
