"""The tables at the end: the weights learned for each user, their worth, and the reactions to each prompt version."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.reactions import Reaction
from demo.stage import Stage
from demo.tips import VERSIONS, Written
from demo.users import User
from demo.weeks import POLICIES, Shown
from oo_ml.services.users.stats import StatsCommand, read_stats

LIKED = (Reaction.DONE, Reaction.HELPFUL)


async def report(stage: Stage, written: Written, decisions: Sequence[Shown]) -> None:
    """Print every table."""
    tables = (
        _make_users_table(stage.users),
        _make_tips_table(written),
        await _make_weights_table(stage),
        _make_rewards_table(stage, decisions),
        _make_reactions_table(decisions),
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


def _make_table(title: str, texts: Sequence[str], numbers: Sequence[str], caption: str | None = None) -> Table:
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


def _make_users_table(users: Sequence[User]) -> Table:
    table = _make_table("Habits of the users, which the service was never told", ("user", "habit"), ())
    for user in users:
        table.add_row(user.name, user.habit)
    return table


def _make_tips_table(written: Written) -> Table:
    headings = ("calls answered", "no usable JSON", "tips", "tokens")
    table = _make_table("Tips by the model, by prompt version", ("prompt version",), headings)
    for version in VERSIONS:
        tips = sum(len(tips) for (_, by), tips in written.tips.items() if by == version)
        numbers = (written.answered[version], written.unusable[version], tips, written.tokens[version])
        table.add_row(version, *map(str, numbers))
    return table


async def _make_weights_table(stage: Stage) -> Table:
    policies = [await stage.services.policies.find(policy) for policy in POLICIES]
    commands = [StatsCommand(user.user_id, policy, datetime.now(UTC)) for user in stage.users for policy in policies]
    names = {user.user_id: user.name for user in stage.users}
    # LinUCB's five features are the first of epsilon-greedy's seven.
    headings = [label.replace("_", "\n") for label in policies[-1].features.labels]
    table = _make_table("Learned weights: theta, as in /stats", ("user", "policy"), headings)
    for found in await stage.services.readers.run(read_stats, commands):
        theta = [f"{weight:+.2f}" for weight in found.theta]
        table.add_row(names[found.user_id], found.policy, *theta, end_section=found.policy == POLICIES[-1])
    return table


def _make_rewards_table(stage: Stage, decisions: Sequence[Shown]) -> Table:
    table = _make_table(
        "Mean reward of a tip shown, counted by the caller",
        ("user", "policy"),
        ("first week", "last week", "all weeks", "by chance"),
        caption="by chance: the mean, had the tips been drawn at random from the same candidates",
    )
    for user in stage.users:
        first_days, last_days = stage.first_day(user) + 7, stage.days - 7
        for policy in POLICIES:
            own = [shown for shown in decisions if shown.user is user and shown.policy == policy]
            means = (
                _mean_reward([shown for shown in own if shown.moment.day < first_days]),
                _mean_reward([shown for shown in own if shown.moment.day >= last_days]),
                _mean_reward(own),
                _signed([shown.by_chance for shown in own]),
            )
            table.add_row(user.name, policy, *means, end_section=policy == POLICIES[-1])
    return table


def _make_reactions_table(decisions: Sequence[Shown]) -> Table:
    table = _make_table(
        "Reactions to each prompt version, counted by the caller",
        ("prompt version",),
        ("shown", *(reaction.name.lower().replace("_", "\n") for reaction in Reaction), "rate", "mean\nreward"),
        caption="the rest: no reaction; rate: share of done or helpful; users here prefer a version by construction,"
        " not for its words",
    )
    for version in (*VERSIONS, None):
        shown = [decision for decision in decisions if decision.tip.prompt_version == version]
        counts = Counter(decision.reaction for decision in shown)
        liked = sum(counts[reaction] for reaction in LIKED)
        rates = (f"{liked / len(shown):.0%}" if shown else "", _mean_reward(shown))
        numbers = (len(shown), *(counts[reaction] for reaction in Reaction))
        table.add_row(version or "(own task)", *map(str, numbers), *rates)
    return table


def _mean_reward(decisions: Sequence[Shown]) -> str:
    return _signed([shown.reaction.value for shown in decisions if shown.reaction is not None])


def _signed(values: Sequence[float]) -> str:
    return f"{np.mean(values):+.2f}" if values else ""
