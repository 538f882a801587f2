"""The figures as Markdown, which docs/performance.md keeps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench import measures
from bench.figures import Figures
from bench.measures import Measure, Results
from bench.memory import Memory
from bench.pages import Pages
from bench.tables import format_table

# Milliseconds.
_OF_PAGE: Final = 300
_OF_VIEW: Final = 1000


@dataclass(frozen=True, slots=True)
class Ran:
    """All figures of a run.

    Attributes:
        machine: names and values.
        results: of the rounds.
        memory: or why it is not known.
        pages: likewise.
        starts: seconds to ready.
        others: more names and values.
    """

    machine: Sequence[tuple[str, str]]
    results: Results
    memory: Memory | str
    pages: Pages | str
    starts: Sequence[float]
    others: Sequence[tuple[str, str]]

    @property
    def has_failed(self) -> bool:
        """True if a figure could not be measured."""
        return bool(self.results.failures) or isinstance(self.memory, str) or isinstance(self.pages, str)


@dataclass(frozen=True, slots=True)
class _Ratio:
    """A row of the table of targets: values, one a round, and the bound that their median has to keep, if any."""

    name: str
    values: Sequence[float]
    at_least: float | None = None
    at_most: float | None = None


def markdown(ran: Ran) -> str:
    """Return the whole report."""
    tables = (
        format_table(("machine", ""), ran.machine),
        format_table(("figure", "target", "median", "from", "to", "met"), map(_format_ratio, _ratios(ran))),
        format_table(
            ("load", "clients", "a second", "from", "to", "p50 ms", "p99 ms", "p99.9 ms"),
            [_load(ran.results, one) for one in measures.ROUND],
        ),
        format_table(_question_heading(ran.pages), _list_questions(ran.pages)),
        format_table(("besides", ""), [*_list_others(ran), *ran.others]),
    )
    return "\n\n".join(tables) + "\n"


def _ratios(ran: Ran) -> Iterator[_Ratio]:
    def divide(one: Measure, other: Measure, what: Callable[[Figures], float] = _rate) -> list[float]:
        above, below = ran.results.of(one), ran.results.of(other)
        return [what(above[number]) / what(below[number]) for number in above.keys() & below.keys()]

    # pgbench's own latency is the mean.
    means = {number: 1000 / figures.rate for number, figures in ran.results.of(measures.REFERENCE_ALONE).items()}
    alone = ran.results.of(measures.SCORE_ALONE)
    memory = [] if isinstance(ran.memory, str) else [ran.memory.late / ran.memory.early]
    yield _Ratio("score, 32 clients: over pgbench's", divide(measures.SCORE, measures.REFERENCE), at_least=0.5)
    yield _Ratio(
        "score, 32 clients: with an API key and metrics over neither",
        divide(measures.GUARDED, measures.BARE),
        at_least=0.95,
    )
    yield _Ratio("the same without a key", divide(measures.SCORE, measures.BARE))
    yield _Ratio("reward, 32 clients: over pgbench's", divide(measures.REWARD, measures.REFERENCE_REWARD), at_least=0.5)
    yield _Ratio(
        "score, 1 client: p50 over pgbench's latency, its mean",
        [alone[number].p50 / means[number] for number in alone.keys() & means.keys()],
        at_most=2,
    )
    yield _Ratio(
        "score, 1 client: p50 over pgbench's p50", divide(measures.SCORE_ALONE, measures.REFERENCE_ALONE, _p50)
    )
    yield _Ratio("one hot user, 32 clients: over spread", divide(measures.HOT, measures.SCORE), at_least=0.8)
    yield _Ratio("the same for pgbench", divide(measures.REFERENCE_HOT, measures.REFERENCE))
    yield _Ratio(
        "/score/batch of 100: decisions over pgbench's transactions",
        divide(measures.BATCH, measures.REFERENCE),
        at_least=3,
    )
    yield _Ratio(
        "score, 32 clients: p50 of the large database over the small one's",
        divide(measures.LARGE, measures.SCORE, _p50),
        at_most=1.2,
    )
    yield _Ratio("memory after very many decisions over after a few", memory, at_most=1.1)


def _rate(figures: Figures) -> float:
    return figures.rate


def _p50(figures: Figures) -> float:
    return figures.p50


def _format_ratio(ratio: _Ratio) -> Sequence[str]:
    bound = "" if ratio.at_least is None else f"at least {ratio.at_least:g}"
    bound = bound if ratio.at_most is None else f"at most {ratio.at_most:g}"
    if not ratio.values:
        return ratio.name, bound, "failed", "", "", "no" if bound else ""
    middle = median(ratio.values)
    is_met = (ratio.at_least is None or middle >= ratio.at_least) and (ratio.at_most is None or middle <= ratio.at_most)
    numbers = [f"{value:.2f}" for value in (middle, min(ratio.values), max(ratio.values))]
    return ratio.name, bound, *numbers, ("yes" if is_met else "no") if bound else ""


def _load(results: Results, one: Measure) -> Sequence[str]:
    figures = list(results.of(one).values())
    if not figures:
        return one.name, str(one.clients), f"failed: {results.failures.get(one, 'not run')}", *[""] * 5
    rates = [each.rate for each in figures]
    latencies = ([each.p50 for each in figures], [each.p99 for each in figures], [each.p999 for each in figures])
    return (
        one.name,
        str(one.clients),
        *(f"{rate:,.0f}" for rate in (median(rates), min(rates), max(rates))),
        *(f"{median(values):.2f}" for values in latencies),
    )


def _question_heading(pages: Pages | str) -> Sequence[str]:
    waiting = "" if isinstance(pages, str) else f", {pages.waiting:,} decisions not counted"
    return (
        "the dashboard's question, large database",
        "target ms",
        "p50 ms",
        "longest",
        f"p50{waiting}",
        "longest",
        "met",
    )


def _list_questions(pages: Pages | str) -> Iterator[Sequence[str]]:
    if isinstance(pages, str):
        yield f"failed: {pages}", *[""] * 6
        return
    for question, counted, before in pages.questions:
        # The rates of all time are the view; a page asks for a period.
        target = _OF_VIEW if "since" not in question and "rates" in question else _OF_PAGE
        numbers = [f"{value:.0f}" for value in (*counted, *before)]
        yield question, f"at most {target}", *numbers, "yes" if counted[0] <= target else "no"


def _list_others(ran: Ran) -> Iterator[tuple[str, str]]:
    if isinstance(ran.memory, str):
        yield "memory", f"failed: {ran.memory}"
    else:
        early, late = (f"{size / 2**20:.0f} MiB" for size in (ran.memory.early, ran.memory.late))
        yield "memory, early and late", f"{early}, {late}, in {ran.memory.processes} process(es)"
        yield "decisions a second in between", f"{ran.memory.rate:,.0f}"
    if not isinstance(ran.pages, str):
        yield "counted by upkeep, rows", f"{ran.pages.rows:,} in {ran.pages.seconds:.0f} s"
    starts = [f"{start:.2f} s" for start in (median(ran.starts), min(ran.starts), max(ran.starts))]
    yield "start to ready", f"{starts[0]} ({starts[1]} to {starts[2]})"
