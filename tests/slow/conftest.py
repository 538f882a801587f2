"""The real gateway and the real model, one of each a run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.offline_model import MODEL, Gateway, offline_model
from tests.slow.environments import install_offline_model, litellm_environment
from tests.slow.litellm_proxy import litellm_proxy, make_config


@pytest.fixture(scope="session")
def announce(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a message past pytest's capture, because an installation takes a while."""
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None

    def print_message(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{text}", flush=True)  # noqa: T201

    return print_message


@pytest.fixture(scope="session")
def litellm(announce: Callable[[str], None]) -> Path:
    """LiteLLM's environment."""
    return litellm_environment(announce)


@pytest.fixture(scope="session")
def smollm2(announce: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """SmolLM2 on llama.cpp."""
    install_offline_model(announce)
    with offline_model(tmp_path_factory.mktemp("smollm2") / "offline-model.log") as gateway:
        yield gateway


@pytest.fixture(scope="session")
def alternating_gateway(litellm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """LiteLLM before a model that answers prose, then JSON, then prose, then JSON."""
    with litellm_proxy(
        litellm, tmp_path_factory.mktemp("alternating"), make_config({"model": "alternating/any"})
    ) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def smollm2_gateway(litellm: Path, smollm2: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """LiteLLM before SmolLM2."""
    model = {"model": f"openai/{MODEL}", "api_base": smollm2.base_url, "api_key": smollm2.key}
    with litellm_proxy(litellm, tmp_path_factory.mktemp("smollm2-gateway"), make_config(model)) as gateway:
        yield gateway
