"""Compiles a definition to the policy that decides."""

from datetime import timedelta

from oo_ml.definitions import document
from oo_ml.definitions.document import Definition
from oo_ml.domain.encodings import Boolean, Category, Cyclic, Encoding, Hashed, Number
from oo_ml.domain.features import Features, Input, Term
from oo_ml.domain.policies import Policy, Rule
from oo_ml.domain.population import Population, Prior


def compile_policy(name: str, definition: Definition) -> Policy:
    """Return the policy of a definition that `parse` has accepted, with the prior that there is before data."""
    rule, features = definition.rule, compile_features(definition)
    return Policy(
        name,
        features,
        Rule(rule.exploration, rule.alpha, rule.sigma),
        definition.model_dump(mode="json", exclude_unset=True),
        _compile_population(definition.evidence, features.dimension),
    )


def _compile_population(evidence: document.Evidence | None, dimension: int) -> Population | None:
    if evidence is None:
        return None
    half_life = None if evidence.half_life_days is None else timedelta(days=evidence.half_life_days)
    return Population(half_life, Prior.initial(dimension))


def compile_features(definition: Definition) -> Features:
    """Return the features of a definition whose terms name its inputs."""
    return Features(
        [
            Input(one.name, one.of, one.field or one.name, _compile_encoding(one), one.missing)
            for one in definition.inputs
        ],
        [Term(one.inputs, one.times) for one in definition.terms],
    )


def _compile_encoding(one: document.Input) -> Encoding:
    match one:
        case document.NumberInput():
            return Number(one.min, one.max, one.minus)
        case document.BooleanInput():
            return Boolean(one.minus)
        case document.CyclicInput():
            return Cyclic(one.period)
        case document.CategoryInput():
            return Category(tuple(one.values))
        case document.HashedInput():
            return Hashed(one.buckets)
