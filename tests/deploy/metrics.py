"""The metrics of the service with their labels, and those that an expression of PromQL names."""

import re
from typing import Final

METRICS: Final[dict[str, frozenset[str]]] = {
    f"oo_ml_{name}": frozenset(labels.split())
    for name, labels in {
        "request_seconds": "method route status",
        "unavailable_total": "code",
        "connections_refused_total": "code",
        "lane_wait_seconds": "lanes",
        "lane_batch_size": "lanes",
        "lane_queued": "lanes",
        "transaction_seconds": "lanes",
        "transaction_retries_total": "lanes",
        "pool_connections": "pool state",
        "pool_limit": "pool",
        "decisions_total": "policy explored",
        "rewards_total": "policy",
        "reward_delay_seconds": "policy",
        "gateway_seconds": "version outcome",
        "gateway_tokens_total": "version kind",
        "upkeep_last_success_timestamp_seconds": "",
        "upkeep_failures_total": "",
        "upkeep_rows_not_counted": "",
        "upkeep_lag_seconds": "",
        "partitions_ahead_months": "",
        "alarm": "alarm",
        "database_up": "",
        "build_info": "version",
    }.items()
}
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
