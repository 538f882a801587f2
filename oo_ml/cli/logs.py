"""Logs of commands. They go to standard error, so that standard output has only results."""

from oo_ml.logs import configure_logging
from oo_ml.setting_choices import LogLevel
from oo_ml.settings import Settings


def configure_logs(settings: Settings, default: LogLevel = LogLevel.ERROR) -> None:
    """Log from OO_ML_LOG_LEVEL upwards, or from `default` if it is not set.

    By default a failure is only the line that main prints; the transaction's warning would repeat it.
    """
    level = settings.log_level if "log_level" in settings.model_fields_set else default
    configure_logging(level, settings.log_format)
