"""Generation of tips: pick a prompt version, call the language model, store the tips or the failure.

The call to the model runs between two short transactions. No transaction is open during it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import httpx

from oo_ml import templates, tracing
from oo_ml.domain.tips import GeneratedTip
from oo_ml.errors import DatabaseReadOnlyError, DatabaseTimeoutError, DatabaseUnavailableError
from oo_ml.execution.pool import Pool
from oo_ml.llm.generation import Generation, generate_tips
from oo_ml.llm.questions import Message, ModelParameters
from oo_ml.services.each import each
from oo_ml.services.prompts.pick_version import PickCommand, VersionProbability, pick_version
from oo_ml.setting_choices import ResponseFormat
from oo_ml.settings import Settings
from oo_ml.storage.generations import GenerationRow, TipRow, insert_generation
from oo_ml.storage.postgres.sessions import Reading, Writing
from oo_ml.storage.prompt_versions import PromptVersion

# Seconds before each further try to store a generation. It was paid for, and storing it twice changes nothing.
_PAUSES: Final = (0.1, 0.5, 2.0)
_PASSING: Final = (DatabaseUnavailableError, DatabaseTimeoutError, DatabaseReadOnlyError)


@dataclass(frozen=True, slots=True)
class GenerateCommand:
    """Ask for `n` tips for a user. `prompt_version` is None unless the client named one."""

    user_id: str
    generation_id: UUID
    created_at: datetime
    context: Mapping[str, object]
    n: int
    prompt_version: str | None


@dataclass(frozen=True, slots=True)
class Generated:
    """The tips, the prompt version and its probability, and the tokens, summed over the attempts."""

    generation_id: UUID
    tips: Sequence[GeneratedTip]
    model: str
    prompt_version: str
    prompt_probability: float
    prompt_tokens: int
    completion_tokens: int


async def generate(  # noqa: PLR0913 - the gateway, the database, and who is told
    command: GenerateCommand,
    *,
    settings: Settings,
    client: httpx.AsyncClient,
    readers: Pool[Reading],
    writers: Pool[Writing],
    generated: Callable[[str, Generation], None],
) -> Generated:
    """Generate tips and store them; a failure is stored too.

    `generated` is told the prompt version and the result of the model.

    Raises:
        UnknownPromptVersionError, RetiredPromptVersionError: the version does not exist, or is retired.
        GatewayError, InvalidReplyError: the gateway or the model gave no usable reply.
        UnavailableError: the gateway or the database can't be reached.
    """
    pick = PickCommand(command.user_id, command.generation_id, command.created_at, command.prompt_version)
    picked = await pick_version(pick, settings=settings, readers=readers, writers=writers)
    parameters = _merge(picked.prompt, settings)
    messages = _render_messages(picked.prompt, command)
    with tracing.gateway_call(picked.prompt.version) as describe:
        generation = await generate_tips(client, settings, parameters, messages, command.n)
        describe(_attributes(generation))
    generated(picked.prompt.version, generation)
    await _store(writers, _Record(command, picked, parameters, generation))
    if generation.error is not None:
        raise generation.error
    return Generated(
        generation_id=command.generation_id,
        tips=generation.tips,
        model=generation.model or parameters.model,
        prompt_version=picked.prompt.version,
        prompt_probability=picked.probability,
        prompt_tokens=generation.prompt_tokens,
        completion_tokens=generation.completion_tokens,
    )


def _merge(prompt: PromptVersion, settings: Settings) -> ModelParameters:
    """Return the parameters of a prompt version, and those of the settings where it has none."""
    return ModelParameters(
        model=prompt.model or settings.llm_model,
        temperature=settings.llm_temperature if prompt.temperature is None else prompt.temperature,
        max_tokens=prompt.max_tokens,
        response_format=ResponseFormat(prompt.response_format or settings.llm_response_format),
        stop=prompt.stop or (),
    )


def _render_messages(prompt: PromptVersion, command: GenerateCommand) -> list[Message]:
    return [
        {"role": role, "content": templates.render(source, n=command.n, context=command.context)}
        for role, source in (("system", prompt.system_template), ("user", prompt.user_template))
    ]


def _outcome(generation: Generation) -> str:
    return generation.error.code if generation.error else "ok"


def _attributes(generation: Generation) -> Mapping[str, str | int]:
    return {
        "oo_ml.outcome": _outcome(generation),
        "oo_ml.attempts": generation.attempts,
        "gen_ai.usage.input_tokens": generation.prompt_tokens,
        "gen_ai.usage.output_tokens": generation.completion_tokens,
    }


@dataclass(frozen=True, slots=True)
class _Record:
    command: GenerateCommand
    picked: VersionProbability
    parameters: ModelParameters
    generation: Generation


async def _store(writers: Pool[Writing], record: _Record) -> None:
    """Store a generation, trying again if the database lost the session while the model wrote, or fails over.

    Raises:
        UnavailableError: the database can't be reached.
    """
    for pause in _PAUSES:
        try:
            await writers.run(_record, [record])
        except _PASSING:
            await asyncio.sleep(pause)
        else:
            return
    await writers.run(_record, [record])


@each
def _record(connection: Writing, record: _Record) -> None:
    command, generation = record.command, record.generation
    # The columns that a generation and its tips share.
    shared: dict[str, Any] = {
        "user_id": command.user_id,
        "generation_id": command.generation_id,
        "prompt_version": record.picked.prompt.version,
        "prompt_probability": record.picked.probability,
        "created_at": command.created_at,
    }
    row = GenerationRow(
        **shared,
        latency_ms=generation.latency_ms,
        prompt_tokens=generation.prompt_tokens,
        completion_tokens=generation.completion_tokens,
        requested=command.n,
        attempts=generation.attempts,
        outcome=_outcome(generation),
        model=generation.model,
        error=generation.error.message if generation.error else None,
        finish_reason=generation.finish_reason,
        repaired=generation.repaired,
        requested_model=record.parameters.model,
        temperature=record.parameters.temperature,
        max_tokens=record.parameters.max_tokens,
        response_format=record.parameters.response_format.value,
        stop=record.parameters.stop or None,
    )
    written = [
        TipRow(**shared, tip_id=tip.id, place=place, content=tip.content, rationale=tip.rationale)
        for place, tip in enumerate(generation.tips)
    ]
    insert_generation(connection, row, written)
