"""A real LiteLLM proxy on loopback for the length of a block."""

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from demo.offline_model import MODEL, Gateway
from demo.processes import Child, find_free_port, make_loopback_environment, running

# What the model `alternating/any` says, in turn, and what each of its replies is said to cost.
TIPS = [{"content": "Open the letter."}, {"content": "Put on your shoes."}, {"content": "Write one line."}]
REPLIES = ["Of course! Here are three tips for a calm morning.", json.dumps(TIPS)]
USAGE = {"prompt_tokens": 40, "completion_tokens": 7, "total_tokens": 47}

_HANDLER = Path(__file__).with_name("alternating_handler.py")
# Measured: 6 to 18 seconds, on two cores that others use too.
_READY_SECONDS = 120.0


def make_config(model: Mapping[str, str]) -> str:
    """Return a configuration with `model` and the provider `alternating`. JSON is YAML."""
    return json.dumps(
        {
            "model_list": [{"model_name": MODEL, "litellm_params": dict(model)}],
            "litellm_settings": {
                "telemetry": False,
                "custom_provider_map": [
                    {"provider": "alternating", "custom_handler": f"{_HANDLER.stem}.alternating"},
                ],
            },
            "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        }
    )


@contextmanager
def litellm_proxy(environment: Path, directory: Path, config: str, **variables: str) -> Iterator[Gateway]:
    """Run the proxy installed in `environment` with `config`; its configuration and log are in `directory`."""
    key = f"sk-{secrets.token_hex(16)}"
    (directory / "config.yaml").write_text(config)
    # Handlers are looked for beside the configuration.
    shutil.copy(_HANDLER, directory)
    (directory / "replies.json").write_text(json.dumps({"replies": REPLIES, "usage": USAGE}))
    port = find_free_port()
    given = make_loopback_environment(LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_MASTER_KEY=key, **variables)
    # Else the gateway would keep its keys there.
    given.pop("DATABASE_URL", None)
    proxy = Child(
        name="LiteLLM",
        command=[
            str(environment / "bin/litellm"),
            "--config",
            str(directory / "config.yaml"),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ],
        environment=given,
        ready=f"http://127.0.0.1:{port}/health/readiness",
        log=directory / "litellm.log",
    )
    with running(proxy, _READY_SECONDS):
        yield Gateway(f"http://127.0.0.1:{port}", key)
