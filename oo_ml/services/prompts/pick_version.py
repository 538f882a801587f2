"""Choice of the prompt version for a generation: the named version, or a version drawn with a known probability.

The probability is stored with the generation, its tips and the decisions about them, so that versions can be compared.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from oo_ml.domain import policies, version_probabilities
from oo_ml.domain.prompts import parse_versions
from oo_ml.domain.version_probabilities import Evidence
from oo_ml.errors import OoMlError
from oo_ml.execution.outcomes import only
from oo_ml.execution.pool import Pool
from oo_ml.services.each import each
from oo_ml.services.prompts.registry import WeighCommand, refuse_retired, show, weigh
from oo_ml.settings import AUTO, Settings
from oo_ml.storage import prompt_versions
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.prompt_versions import PromptVersion

_LAST_RESORT: Final = "v1"
# Probabilities by rewards vary slightly with the seed. Lists show the probabilities of this seed.
_SEED_OF_LISTS: Final = 0


@dataclass(frozen=True, slots=True)
class PickCommand:
    """Pick a version for a generation. `prompt_version` is None unless the client named a version."""

    user_id: str
    generation_id: UUID
    picked_at: datetime
    prompt_version: str | None = None


@dataclass(frozen=True, slots=True)
class VersionProbability:
    """A version, and the probability with which it is picked or was picked."""

    prompt: PromptVersion
    probability: float


async def pick_version(
    command: PickCommand, *, settings: Settings, readers: Pool[Reading], writers: Pool[Writing]
) -> VersionProbability:
    """Return the version for a generation.

    Raises:
        UnknownPromptVersionError, RetiredPromptVersionError: the version does not exist, or is retired.
        UnavailableError: the database can't be reached.
    """
    # A version that the user may keep is stored.
    workers = writers if _may_be_kept(settings, command) else readers
    return only(await workers.run(partial(pick, settings=settings), [command]))


@each
def pick(connection: Writing, command: PickCommand, *, settings: Settings) -> VersionProbability | OoMlError:
    """Return the version for a generation."""
    seed = command.generation_id.int
    if command.prompt_version is not None:
        options = _find_uniform(connection, [command.prompt_version])
    else:
        options = find_options(connection, settings, seed)
    if isinstance(options, OoMlError):
        return options
    picked = options[version_probabilities.pick([one.probability for one in options], policies.draw(seed)[0])]
    # A version without a weight is the default. It was picked because no version has a weight, and is not kept.
    if _may_be_kept(settings, command) and picked.prompt.weight > 0:
        return _keep(connection, command, picked)
    return picked


def find_options(connection: Reading, settings: Settings, seed: int) -> list[VersionProbability] | OoMlError:
    """Return the versions that may be picked if the call names none; their probabilities sum to 1."""
    names = parse_versions(settings.tip_prompt_version)
    if not names:
        options = _find_by_weight(connection)
    elif set(names) == {AUTO}:
        options = _find_by_rewards(connection, seed)
    else:
        return _find_uniform(connection, names)
    return options or _find_uniform(connection, [settings.default_prompt_version.strip() or _LAST_RESORT])


def list_traffic(connection: Reading, _: Sequence[None], *, settings: Settings) -> list[list[VersionProbability]]:
    """Return every version, retired ones too, oldest first, with its probability if a call names no version."""
    options = find_options(connection, settings, _SEED_OF_LISTS)
    # If no version is in use, such calls are refused, and every probability is 0.
    found = {} if isinstance(options, OoMlError) else {one.prompt.version: one.probability for one in options}
    return [
        [VersionProbability(prompt, found.get(prompt.version, 0.0)) for prompt in prompt_versions.list_all(connection)]
    ]


def set_weights(
    connection: Writing, commands: Sequence[WeighCommand], *, settings: Settings
) -> list[VersionProbability | OoMlError]:
    """Set weights; return each version with its new probability if a call names no version."""
    outcomes = weigh(connection, commands)
    [listing] = list_traffic(connection, [None], settings=settings)
    found = {one.prompt.version: one for one in listing}
    return [one if isinstance(one, OoMlError) else found[one.version] for one in outcomes]


def _find_uniform(connection: Reading, names: Sequence[str]) -> list[VersionProbability] | OoMlError:
    """Return the named versions in use, each with its share of the names; if none is in use, the first error."""
    shown = show(connection, names)
    in_use = [prompt for prompt in shown if isinstance(prompt, PromptVersion) and prompt.status == "active"]
    if in_use:
        return [VersionProbability(prompt, places / len(in_use)) for prompt, places in Counter(in_use).items()]
    return shown[0] if isinstance(shown[0], OoMlError) else refuse_retired(shown[0].version)


def _find_by_weight(connection: Reading) -> list[VersionProbability]:
    weighted = [prompt for prompt in prompt_versions.list_active(connection) if prompt.weight > 0]
    if not weighted:
        return []
    probabilities = version_probabilities.normalize([prompt.weight for prompt in weighted])
    return [
        VersionProbability(prompt, probability) for prompt, probability in zip(weighted, probabilities, strict=True)
    ]


def _find_by_rewards(connection: Reading, seed: int) -> list[VersionProbability]:
    found = prompt_versions.list_active(connection)
    if not found:
        return []
    evidence = prompt_versions.read_evidence(connection, [prompt.version for prompt in found])
    probabilities = version_probabilities.estimate_thompson(
        [evidence.get(prompt.version, Evidence()) for prompt in found], seed
    )
    return [VersionProbability(prompt, probability) for prompt, probability in zip(found, probabilities, strict=True)]


def _may_be_kept(settings: Settings, command: PickCommand) -> bool:
    nothing_named = command.prompt_version is None and not parse_versions(settings.tip_prompt_version)
    return settings.prompt_sticky and nothing_named


def _keep(connection: Writing, command: PickCommand, picked: VersionProbability) -> VersionProbability:
    version, probability = prompt_versions.assign(
        connection, command.user_id, picked.prompt.version, picked.probability, command.picked_at
    )
    prompt = picked.prompt if version == picked.prompt.version else prompt_versions.find(connection, [version])[version]
    return VersionProbability(prompt, probability)
