"""What every part of the demo works with, and how far a long step has come."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from oo_ml.demo.people import Person

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stage:
    """The service, the people, the source of every random draw, and where to print."""

    http: httpx.Client
    people: Sequence[Person]
    rng: np.random.Generator
    console: Console


def steps(console: Console, what: str, items: Sequence[T], *, lines: int = 8) -> Iterator[T]:
    """Yield `items`, showing how many are done: a bar on a terminal, at most `lines` plain lines elsewhere."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            yield from progress.track(items, description=what)
        return
    for done, item in enumerate(items, start=1):
        yield item
        # A line each time another 1/lines of the way is behind us, the last step included.
        if done * lines // len(items) > (done - 1) * lines // len(items):
            console.print(f"{what}: {done} of {len(items)}")
