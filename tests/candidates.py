"""Candidates for tests that call the services themselves."""

from dataclasses import dataclass

from oo_ml.domain.features import Task


@dataclass(frozen=True)
class Candidate:
    """A candidate as the services want it."""

    id: str
    source: str
    features: Task
    prompt_version: str | None = None
    content: str | None = None
