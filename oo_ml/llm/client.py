"""Client of the chat-completions gateway: one question, one answer.

One call takes no longer than OO_ML_LLM_TIMEOUT and reads no more than OO_ML_LLM_MAX_REPLY_BYTES, whatever the gateway
does.
"""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import aclosing
from functools import cache

import httpx

from oo_ml import tracing
from oo_ml.errors import GatewayError, GatewayUnreachableError
from oo_ml.llm.completions import Completion, parse_completion
from oo_ml.llm.failures import describe_lost, status_error
from oo_ml.settings import Settings


def create_client(settings: Settings) -> httpx.AsyncClient:
    """Return the process's one client of the gateway; the caller closes it."""
    key = settings.litellm_master_key.get_secret_value()
    return httpx.AsyncClient(
        base_url=settings.litellm_url,
        # Uncompressed, so that the limit on an answer's size holds before it is unpacked, too.
        headers={"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"},
        timeout=httpx.Timeout(
            settings.llm_timeout, connect=settings.llm_connect_timeout, pool=settings.llm_connect_timeout
        ),
        limits=httpx.Limits(
            max_connections=settings.llm_max_connections, max_keepalive_connections=settings.llm_max_connections
        ),
        # LITELLM_URL is the address of the gateway. A proxy or a .netrc meant for other programs would send prompts and
        # the key elsewhere, or replace the key.
        trust_env=False,
        verify=_read_certificates(),
    )


@cache
def _read_certificates() -> ssl.SSLContext:
    # Reading them takes 40 ms. Tests start hundreds of services in one process.
    return httpx.create_ssl_context(trust_env=False)


async def complete(client: httpx.AsyncClient, settings: Settings, question: Mapping[str, object]) -> Completion:
    """Ask the gateway once.

    Raises:
        GatewayError: The gateway answered with an error status, with too much, or with something that is no chat
            completion. A completion may hold an error, too.
        GatewayUnreachableError: The gateway cannot be reached, dropped the connection, or did not answer in time.
    """
    limit = settings.llm_max_reply_bytes
    try:
        # httpx bounds each read; only this timeout bounds a gateway that sends a byte now and then.
        async with (
            asyncio.timeout(settings.llm_timeout),
            client.stream("POST", "chat/completions", json=question, headers=tracing.headers()) as response,
        ):
            body = await _read(response, limit)
    except (TimeoutError, httpx.TransportError) as failure:
        raise GatewayUnreachableError(describe_lost(failure, settings)) from failure
    except httpx.DecodingError as failure:
        raise GatewayError("The language model gateway's answer can't be unpacked") from failure
    if not response.is_success:
        raise status_error(response, body[:limit], settings)
    if len(body) > limit:
        raise GatewayError(f"The language model gateway's answer is larger than {limit} bytes")
    return parse_completion(body)


async def _read(response: httpx.Response, limit: int) -> bytes:
    """Return the body, or the beginning of a larger body, which exceeds `limit` too."""
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:  # type: ignore[type-var]  # a generator, declared an iterator
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                break
    return bytes(body)
