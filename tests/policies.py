"""The built-in policies, compiled from the files that the migration publishes, with parameters as the settings give."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from oo_ml import definitions
from oo_ml.domain.evidence import Evidence
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB, Policy, Rule
from oo_ml.errors import OoMlError
from oo_ml.services.decisions.decide import Answer, DecideCommand, decide
from oo_ml.storage.postgres.sessions import Writing

DEFINITIONS: Final = Path(__file__).parent.parent / "alembic" / "policies"
DIMENSIONS: Final = {LINUCB: 5, EPSILON_GREEDY: 7}
FRESH: Final = {policy: Evidence.alone(d) for policy, d in DIMENSIONS.items()}


@dataclass(frozen=True, slots=True)
class Parameters:
    """The settings that give the contract's policies their rules."""

    alpha: float
    epsilon: float
    exploration: float = 0.0

    def policy(self, name: str) -> Policy:
        """Return a policy with these parameters."""
        rule = Rule(self.epsilon) if name == EPSILON_GREEDY else Rule(self.exploration, self.alpha)
        return replace(builtin(name), rule=rule)


@cache
def builtin(name: str) -> Policy:
    """Return a built-in policy as it is published."""
    definition = definitions.parse((DEFINITIONS / f"{name}.json").read_text())
    return definitions.compile_policy(name, definition)


def decide_by(
    parameters: Parameters, connection: Writing, commands: Sequence[DecideCommand]
) -> list[Answer | OoMlError]:
    """Make the decisions with these parameters, whatever those of the commands are."""
    return decide(connection, [replace(one, policy=parameters.policy(one.policy.name)) for one in commands])
