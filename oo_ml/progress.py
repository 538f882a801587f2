"""Progress of a long step: a bar on a terminal, a few plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO


@contextmanager
def progress(stream: IO[str], what: str, total: int, *, lines: int = 10) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the size of each part that is done.

    If `stream` is not a terminal, at most `lines` lines are printed.
    """
    if stream.isatty():
        # Only a terminal needs rich, which takes 0.1 s to import.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(file=stream)) as bar:
            yield partial(bar.advance, bar.add_task(what, total=total))
        return
    done = 0

    def advance(part: int) -> None:
        nonlocal done
        before, done = done, done + part
        # One line for each 1/lines of the total, the last part included.
        if total and done * lines // total > before * lines // total:
            print(f"{what}: {done} of {total}", file=stream, flush=True)

    yield advance
