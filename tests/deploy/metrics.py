"""The metrics and labels that an expression of PromQL names, compared with those of the service."""

import re
from typing import Final

from oo_ml.metrics.declarations import ALL

METRICS: Final = {one.name: frozenset(one.labels) for one in ALL}
# Prometheus adds these to each series.
_OF_TARGETS: Final = frozenset({"job", "instance"})

_METRIC: Final = re.compile(r"\b(oo_ml_\w+)(?:\{([^}]*)\})?")
_GROUPING: Final = re.compile(r"\b(?:by|on) \(([^)]*)\)")
_STRING: Final = re.compile(r'"[^"]*"')


def find_unknown(expression: str) -> set[str]:
    """Return the metrics and labels of an expression that the service does not have."""
    unknown, usable = set(), {"le"}
    for series, matchers in _METRIC.findall(expression):
        name = series if series in METRICS else re.sub(r"_(?:bucket|count|sum)$", "", series)
        if name not in METRICS:
            unknown.add(series)
            continue
        labels = METRICS[name] | _OF_TARGETS
        usable |= labels
        unknown |= set(re.findall(r"\w+", _STRING.sub("", matchers))) - labels
    for grouping in _GROUPING.findall(expression):
        unknown |= set(re.findall(r"\w+", grouping)) - usable
    return unknown
