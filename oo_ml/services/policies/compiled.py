"""Published policies as the objects that decide and learn."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

from oo_ml import definitions
from oo_ml.domain.policies import EPSILON_GREEDY, LINUCB, Policy, Rule
from oo_ml.domain.population import Prior
from oo_ml.errors import InvalidDefinitionError, UnreadablePolicyError
from oo_ml.settings import Settings
from oo_ml.storage import policies
from oo_ml.storage.policies import PolicyRow
from oo_ml.storage.postgres.sessions import Reading


def rules_of(settings: Settings) -> dict[str, Rule]:
    """Return the rules that settings give to the policies of the contract, whatever their definitions say."""
    return {
        LINUCB: Rule(settings.exploration, settings.alpha),
        EPSILON_GREEDY: Rule(settings.epsilon),
    }


def compile_row(row: PolicyRow, rules: Mapping[str, Rule], prior: Prior | None = None) -> Policy:
    """Return the policy of a row, by the rule in `rules` if there is one for it, else by that of its definition.

    `prior` is the latest version of its prior; None: it has none, or only that before data.

    Raises:
        UnreadablePolicyError: this release can't read the definition; a later one published it.
    """
    try:
        policy = _compile(row.policy, json.dumps(row.definition))
    except InvalidDefinitionError as error:
        raise UnreadablePolicyError(
            f"The policy {row.policy} is of a later release, which this one can't read", cause=error.message
        ) from None
    population = policy.population
    if population is not None and prior is not None:
        population = replace(population, prior=prior)
    return replace(
        policy,
        rule=rules.get(row.policy, policy.rule),
        definition=row.definition,
        population=population,
        is_retired=row.status == "retired",
    )


def read_policies(connection: Reading, rules: Mapping[str, Rule]) -> dict[str, Policy]:
    """Return all published policies by name, retired ones too, with the prior that there is before data.

    Those that only a later release can read are left out.
    """
    found = {}
    for row in policies.list_all(connection):
        with suppress(UnreadablePolicyError):
            found[row.policy] = compile_row(row, rules)
    return found


# A published definition never changes.
@lru_cache(maxsize=1000)
def _compile(name: str, definition: str) -> Policy:
    return definitions.compile_policy(name, definitions.parse(definition))
