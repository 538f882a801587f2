"""Generating: a prompt version is picked, a language model writes tips, and what came of it is stored.

Two short transactions with the model's answer between them: none is open while the model is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from oo_ml import llm, templates
from oo_ml.domain.prompts import GeneratedTip
from oo_ml.llm import Generation, Message
from oo_ml.services.container import Services
from oo_ml.services.prompts.traffic import Offer, PickCommand, picked
from oo_ml.storage.generations import GenerationRow, TipRow, insert_generation
from oo_ml.storage.prompts import PromptVersion


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
    """The tips, the version actually used and its probability, and what they cost, summed over the attempts."""

    generation_id: UUID
    tips: Sequence[GeneratedTip]
    model: str
    prompt_version: str
    prompt_probability: float
    prompt_tokens: int
    completion_tokens: int


async def generate(services: Services, command: GenerateCommand) -> Generated:
    """Have tips written and stored, failures included.

    Raises:
        UnknownPromptVersionError, RetiredPromptVersionError: no such version, or no longer in use.
        GatewayError, InvalidReplyError: the gateway or the model gave nothing that can be used.
        UnavailableError: the gateway or the database can't be reached.
    """
    offer = await picked(
        services, PickCommand(command.user_id, command.generation_id, command.created_at, command.prompt_version)
    )
    generation = await llm.generate_tips(services.llm, services.settings, _messages(offer.prompt, command), command.n)
    await services.writers.run(_record, [_Record(command, offer, generation)])
    if generation.error is not None:
        raise generation.error
    return Generated(
        generation_id=command.generation_id,
        tips=generation.tips,
        model=generation.model or llm.MODEL,
        prompt_version=offer.prompt.version,
        prompt_probability=offer.probability,
        prompt_tokens=generation.prompt_tokens,
        completion_tokens=generation.completion_tokens,
    )


def _messages(prompt: PromptVersion, command: GenerateCommand) -> list[Message]:
    return [
        {"role": role, "content": templates.render(source, n=command.n, context=command.context)}
        for role, source in (("system", prompt.system_template), ("user", prompt.user_template))
    ]


@dataclass(frozen=True, slots=True)
class _Record:
    command: GenerateCommand
    offer: Offer
    generation: Generation


def _record(connection: Connection, records: Sequence[_Record]) -> list[None]:
    for record in records:
        command, generation = record.command, record.generation
        row = GenerationRow(
            user_id=command.user_id,
            generation_id=command.generation_id,
            prompt_version=record.offer.prompt.version,
            prompt_probability=record.offer.probability,
            created_at=command.created_at,
            latency_ms=generation.latency_ms,
            prompt_tokens=generation.prompt_tokens,
            completion_tokens=generation.completion_tokens,
            requested=command.n,
            attempts=generation.attempts,
            outcome=generation.error.code if generation.error else "ok",
            model=generation.model,
            error=generation.error.message if generation.error else None,
        )
        written = [
            TipRow(
                user_id=command.user_id,
                tip_id=tip.id,
                generation_id=command.generation_id,
                prompt_version=record.offer.prompt.version,
                prompt_probability=record.offer.probability,
                created_at=command.created_at,
                place=place,
                content=tip.content,
                rationale=tip.rationale,
            )
            for place, tip in enumerate(generation.tips)
        ]
        insert_generation(connection, row, written)
    return [None] * len(records)
