"""Progress of a long step: a bar on a terminal, a few plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress(console: Console, what: str, total: int, *, lines: int = 10) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the size of each part that is done.

    Without a terminal at most `lines` lines are printed.
    """
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            yield partial(bar.advance, bar.add_task(what, total=total))
        return
    done = 0

    def advance(part: int) -> None:
        nonlocal done
        before, done = done, done + part
        # One line for each 1/lines of the total, the last part included.
        if total and done * lines // total > before * lines // total:
            console.print(f"{what}: {done} of {total}", highlight=False)

    yield advance
