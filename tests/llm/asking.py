"""Requests for tips, as the tests of this directory make them."""

import asyncio

from oo_ml.domain.tips import GeneratedTip
from oo_ml.llm.client import create_client
from oo_ml.llm.generation import Generation, generate_tips
from oo_ml.llm.questions import ModelParameters
from oo_ml.setting_choices import ResponseFormat
from oo_ml.settings import Settings
from tests.gateway import Gateway

MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tips, please."}]
GOOD = '[{"id": "walk", "content": "Walk a little.", "rationale": "It is sunny."}]'
WALK = GeneratedTip("walk", "Walk a little.", "It is sunny.")
PROSE = "Of course! Here is a tip: walk."
PARAMETERS = ModelParameters("tip-generator", 0.7, None, ResponseFormat.NONE, ())


def make_gateway_settings(gateway: Gateway, *, timeout: float = 5) -> Settings:
    """Return settings with the address of `gateway`."""
    return Settings(
        litellm_url=gateway.url, litellm_master_key="sk-test", llm_timeout=timeout, llm_max_reply_bytes=100_000
    )


def generate(settings: Settings, n: int = 3, parameters: ModelParameters = PARAMETERS) -> Generation:
    """Ask for `n` tips with a client of its own."""

    async def main() -> Generation:
        async with create_client(settings) as client:
            return await generate_tips(client, settings, parameters, MESSAGES, n)

    return asyncio.run(main())
