"""The metrics of the service: name, kind, labels and meaning. docs/reference/metrics.md is written from them.

Each label has few values: no label is a user, a tip, a path or any other text that a client chooses.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# No route was reached, or no answer began.
NONE: Final = "(none)"
OTHER: Final = "(other)"

# Seconds. Calls take milliseconds; OO_ML_REQUEST_TIMEOUT ends them at 1.9 s, OO_ML_LONG_TIMEOUT at 60 s.
_CALL: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 10.0, 60.0)
# OO_ML_LLM_TIMEOUT ends each of three attempts at 30 s.
_GATEWAY: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0)
# From a second to two weeks.
_DELAY: Final = (1.0, 10.0, 60.0, 600.0, 3600.0, 4 * 3600.0, 12 * 3600.0, 86_400.0, 3 * 86_400.0, 14 * 86_400.0)
_BATCH: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 1024.0)


class Kind(StrEnum):
    """Kind of a metric, as Prometheus names it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric.

    Attributes:
        buckets: upper bounds of a histogram's buckets; there is always one more, without a bound.
        is_read: True if any process can read the value for all, so that no process keeps it.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()
    is_read: bool = False


REQUEST_SECONDS: Final = Declared(
    "oo_ml_request_seconds",
    Kind.HISTOGRAM,
    ("method", "route", "status"),
    "Time from the head of a request to the end of its answer. route is a template",
    _CALL,
)
UNAVAILABLE: Final = Declared("oo_ml_unavailable_total", Kind.COUNTER, ("code",), "Answers 503, by error code")
CONNECTIONS_REFUSED: Final = Declared(
    "oo_ml_connections_refused_total",
    Kind.COUNTER,
    ("code",),
    "Connections that the HTTP protocol ended: a malformed, slow or too large request, or too many of them",
)
LANE_WAIT_SECONDS: Final = Declared(
    "oo_ml_lane_wait_seconds",
    Kind.HISTOGRAM,
    ("lanes",),
    "Time for which a call waited until its transaction began",
    _CALL,
)
LANE_BATCH_SIZE: Final = Declared(
    "oo_ml_lane_batch_size", Kind.HISTOGRAM, ("lanes",), "Commands that shared a transaction", _BATCH
)
LANE_QUEUED: Final = Declared("oo_ml_lane_queued", Kind.GAUGE, ("lanes",), "Calls that wait for a thread")
TRANSACTION_SECONDS: Final = Declared(
    "oo_ml_transaction_seconds",
    Kind.HISTOGRAM,
    ("lanes",),
    "Time from BEGIN to the end of COMMIT or ROLLBACK",
    _CALL,
)
TRANSACTION_RETRIES: Final = Declared(
    "oo_ml_transaction_retries_total",
    Kind.COUNTER,
    ("lanes",),
    "Transactions that were run again, because PostgreSQL aborted them in favour of others",
)
POOL_CONNECTIONS: Final = Declared(
    "oo_ml_pool_connections", Kind.GAUGE, ("pool", "state"), "Open connections to PostgreSQL: in_use or idle"
)
POOL_LIMIT: Final = Declared("oo_ml_pool_limit", Kind.GAUGE, ("pool",), "Connections to PostgreSQL, at most")
DECISIONS: Final = Declared(
    "oo_ml_decisions_total",
    Kind.COUNTER,
    ("policy", "explored"),
    "Decisions made. explored is true for those that were drawn at random",
)
UNKNOWN_VALUES: Final = Declared(
    "oo_ml_unknown_values_total",
    Kind.COUNTER,
    ("policy", "input"),
    "Candidates of decisions with a category that the policy's definition does not list: it is 0 in all columns",
)
REWARDS: Final = Declared(
    "oo_ml_rewards_total", Kind.COUNTER, ("policy",), "Rewards learned, without corrections and default rewards"
)
REWARD_DELAY_SECONDS: Final = Declared(
    "oo_ml_reward_delay_seconds", Kind.HISTOGRAM, ("policy",), "Time from a decision to its reward", _DELAY
)
GATEWAY_SECONDS: Final = Declared(
    "oo_ml_gateway_seconds",
    Kind.HISTOGRAM,
    ("version", "outcome"),
    "Time of a generation at the gateway, up to three attempts. outcome is ok or an error code",
    _GATEWAY,
)
GATEWAY_TOKENS: Final = Declared(
    "oo_ml_gateway_tokens_total", Kind.COUNTER, ("version", "kind"), "Tokens used: prompt or completion"
)
UPKEEP_FAILURES: Final = Declared(
    "oo_ml_upkeep_failures_total", Kind.COUNTER, (), "Upkeep tasks of this service that failed and will be retried"
)
UPKEEP_LAST_SUCCESS: Final = Declared(
    "oo_ml_upkeep_last_success_timestamp_seconds",
    Kind.GAUGE,
    (),
    "Time at which the sums by day, priors, and default rewards if OO_ML_REWARD_WAIT is set, were last kept up, by any"
    " process",
    is_read=True,
)
UPKEEP_LAG_SECONDS: Final = Declared(
    "oo_ml_upkeep_lag_seconds",
    Kind.GAUGE,
    (),
    "Time since then, by the clock of the database",
    is_read=True,
)
UPKEEP_ROWS_NOT_COUNTED: Final = Declared(
    "oo_ml_upkeep_rows_not_counted",
    Kind.GAUGE,
    (),
    "Decisions, ledger entries and generations that are not in the sums by day yet",
    is_read=True,
)
PARTITIONS_AHEAD: Final = Declared(
    "oo_ml_partitions_ahead_months",
    Kind.GAUGE,
    (),
    "Months after this one that have a partition",
    is_read=True,
)
ALARM: Final = Declared(
    "oo_ml_alarm",
    Kind.GAUGE,
    ("alarm",),
    "1 if upkeep needs an operator: a month is missing, is too crowded to be made, or has stray decisions",
    is_read=True,
)
PRIOR_FITTED: Final = Declared(
    "oo_ml_prior_fitted_timestamp_seconds",
    Kind.GAUGE,
    ("policy",),
    "Time of the fit of the latest version of the prior from which the users of a policy start",
    is_read=True,
)
DATABASE_UP: Final = Declared(
    "oo_ml_database_up",
    Kind.GAUGE,
    (),
    "1 if the service could read the database, 0 if not",
    is_read=True,
)
BUILD_INFO: Final = Declared(
    "oo_ml_build_info",
    Kind.GAUGE,
    ("version",),
    "Always 1",
    is_read=True,
)

ALL: Final = tuple(one for one in list(globals().values()) if isinstance(one, Declared))
