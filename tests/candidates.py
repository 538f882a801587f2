"""Candidates and contexts of the contract's policies, for tests that call the services themselves."""

from oo_ml.domain.features import Fields
from oo_ml.services.decisions.decide import Candidate


def build_context(hour_of_day: int, day_of_week: int) -> Fields:
    """Return the context of a decision."""
    return {"hour_of_day": hour_of_day, "day_of_week": day_of_week}


def build_task(is_overdue: bool, task_age_days: float, priority: int) -> Fields:
    """Return the features of a candidate."""
    return {"is_overdue": is_overdue, "task_age_days": task_age_days, "priority": priority}


def build_candidate(
    tip_id: str, source: str, features: Fields, prompt_version: str | None = None, content: str | None = None
) -> Candidate:
    """Return a candidate."""
    return Candidate(tip_id, features, source, content, prompt_version)
