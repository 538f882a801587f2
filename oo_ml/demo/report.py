"""The tables at the end: what was learned of each person, what it was worth, how each prompt version was received."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from oo_ml.demo.client import call
from oo_ml.demo.people import Person, Reaction
from oo_ml.demo.stage import Stage
from oo_ml.demo.tips import VERSIONS, Written
from oo_ml.demo.weeks import POLICIES, Shown

LIKED = (Reaction.DONE, Reaction.HELPFUL)


def report(stage: Stage, written: Written, decisions: Sequence[Shown]) -> None:
    """Print every table."""
    tables = (
        _who(stage.people),
        _written(written),
        _learned(stage),
        _worth(stage.people, decisions),
        _reactions(decisions),
    )
    for table in tables:
        stage.console.print(table)


def show_examples(console: Console, written: Written) -> None:
    """Print one tip of each prompt version, as the model wrote it."""
    for version in VERSIONS:
        tips = (tip for (_, by), tips in written.tips.items() if by == version for tip in tips)
        example = next(tips, None)
        words = f"[italic]{escape(example.content)}[/italic]" if example else "nothing usable"
        console.print(f"  {version}: {words}", highlight=False)


def _table(title: str, texts: Sequence[str], numbers: Sequence[str], caption: str | None = None) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for heading in texts:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _who(people: Sequence[Person]) -> Table:
    table = _table("Who they are, which the service was never told", ("person", "habit"), ())
    for person in people:
        table.add_row(person.name, person.habit)
    return table


def _written(written: Written) -> Table:
    headings = ("calls answered", "no usable JSON", "tips", "tokens")
    table = _table("What the model wrote, by prompt version", ("prompt version",), headings)
    for version in VERSIONS:
        tips = sum(len(tips) for (_, by), tips in written.tips.items() if by == version)
        numbers = (written.answered[version], written.unusable[version], tips, written.tokens[version])
        table.add_row(version, *map(str, numbers))
    return table


def _learned(stage: Stage) -> Table:
    rows = [
        (person, policy, call(stage.http, "GET", f"/stats{policy.suffix}/{person.user_id}"))
        for person in stage.people
        for policy in POLICIES
    ]
    # Only epsilon-greedy's answer names its features: seven, and LinUCB's five are the first of them.
    labels = next(stats["feature_labels"] for _, _, stats in rows if "feature_labels" in stats)
    table = _table(
        "What was learned: theta, from the service's /stats",
        ("person", "policy"),
        [label.replace("_", "\n") for label in labels],
    )
    for person, policy, stats in rows:
        theta = [f"{weight:+.2f}" for weight in stats["theta"]]
        table.add_row(person.name, policy.name, *theta, end_section=policy is POLICIES[-1])
    return table


def _worth(people: Sequence[Person], decisions: Sequence[Shown]) -> Table:
    table = _table(
        "Mean reward of a tip shown, counted by the caller",
        ("person", "policy"),
        ("first week", "last week", "all weeks", "by chance"),
        caption="by chance: the mean, had the tips been drawn at random from the same candidates",
    )
    last_week = decisions[-1].moment.week
    for person in people:
        for policy in POLICIES:
            own = [shown for shown in decisions if shown.person is person and shown.policy is policy]
            means = (
                _mean_reward([shown for shown in own if shown.moment.week == 0]),
                _mean_reward([shown for shown in own if shown.moment.week == last_week]),
                _mean_reward(own),
                float(np.mean([shown.by_chance for shown in own])),
            )
            numbers = [f"{mean:+.2f}" for mean in means]
            table.add_row(person.name, policy.name, *numbers, end_section=policy is POLICIES[-1])
    return table


def _reactions(decisions: Sequence[Shown]) -> Table:
    table = _table(
        "Reactions to each prompt version, counted by the caller",
        ("prompt version",),
        ("shown", *(reaction.name.lower().replace("_", "\n") for reaction in Reaction), "rate", "mean\nreward"),
        caption="rate: share of done or helpful; people here prefer a version by construction, not for its words",
    )
    for version in (*VERSIONS, None):
        shown = [decision for decision in decisions if decision.tip.prompt_version == version]
        counts = Counter(decision.reaction for decision in shown)
        liked = sum(counts[reaction] for reaction in LIKED)
        rates = (f"{liked / len(shown):.0%}", f"{_mean_reward(shown):+.2f}") if shown else ("", "")
        numbers = (len(shown), *(counts[reaction] for reaction in Reaction))
        table.add_row(version or "(own task)", *map(str, numbers), *rates)
    return table


def _mean_reward(decisions: Sequence[Shown]) -> float:
    return float(np.mean([shown.reaction.value for shown in decisions]))
