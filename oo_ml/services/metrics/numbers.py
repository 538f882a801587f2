"""The numbers of upkeep for metrics. They come from the database, so they cover every process and every command."""

from collections.abc import Sequence
from datetime import datetime

from oo_ml.metrics import declarations as declared
from oo_ml.metrics.registry import Sample
from oo_ml.services.each import each
from oo_ml.services.upkeep.partitions import Alarm, read_months_ahead
from oo_ml.settings import Settings
from oo_ml.storage import daily_sums, policy_priors, upkeep
from oo_ml.storage.postgres.sessions import Reading


@each
def read_numbers(connection: Reading, now: datetime, *, settings: Settings) -> Sequence[Sample]:
    """Return the numbers at `now`. No query reads more rows if more users or decisions come."""
    tasks = [upkeep.DAYS, upkeep.PRIORS, *([] if settings.reward_wait is None else [upkeep.DEFAULT_REWARDS])]
    last = upkeep.read_last_success(connection, tasks)
    [months] = read_months_ahead(connection, [now])
    runs = (
        []
        if last is None
        else [
            Sample(declared.UPKEEP_LAST_SUCCESS, last.at.timestamp()),
            Sample(declared.UPKEEP_LAG_SECONDS, last.seconds_ago),
        ]
    )
    return [
        *runs,
        Sample(declared.UPKEEP_ROWS_NOT_COUNTED, daily_sums.count_uncounted(connection)),
        Sample(declared.PARTITIONS_AHEAD, months.count),
        *(
            Sample(declared.PRIOR_FITTED, fitted_at.timestamp(), (policy,))
            for policy, fitted_at in policy_priors.read_fit_times(connection).items()
        ),
        *(Sample(declared.ALARM, alarm in months.alarms, (alarm,)) for alarm in Alarm),
    ]
