"""Logs of commands: on standard error, so that standard output holds results only."""

from oo_ml.logs import configure_logging
from oo_ml.settings import LogLevel, Settings


def configure_logs(settings: Settings, default: LogLevel = LogLevel.ERROR) -> None:
    """Log from OO_ML_LOG_LEVEL upwards, or from `default` if it is not set.

    A failure ends as the one line that main prints; by default the transaction's own warning would repeat it.
    """
    configure_logging(settings.log_level if "log_level" in settings.model_fields_set else default)
