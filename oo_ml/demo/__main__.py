"""`python -m oo_ml.demo` starts the offline model and the service, lives some weeks through them, says what came of it.

Everything it starts is stopped again; its data stays in --data-dir. A second run begins with the same people afresh.
"""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import platformdirs
import typer
from rich.console import Console

from oo_ml.demo.client import MODEL_SECONDS, call, connect
from oo_ml.demo.offline_model import Gateway, offline_model
from oo_ml.demo.people import PEOPLE
from oo_ml.demo.processes import Child, free_port, loopback_environment, running
from oo_ml.demo.report import report, show_examples
from oo_ml.demo.stage import Stage
from oo_ml.demo.tips import VERSIONS, write_tips
from oo_ml.demo.weeks import live
from oo_ml.errors import OoMlError

DEFAULT_DATA_DIR = platformdirs.user_data_path("oo-ml-demo", appauthor=False)


@contextmanager
def service(data_dir: Path, gateway: Gateway) -> Iterator[str]:
    """Run the service on `data_dir` and `gateway` for the length of the block, and yield its address."""
    port = free_port()
    environment = loopback_environment(
        OO_ML_DATA_DIR=str(data_dir),
        OO_ML_LLM_RESPONSE_FORMAT="json_schema",
        # A busy machine's processor is slow with a model.
        OO_ML_LLM_TIMEOUT=str(MODEL_SECONDS),
        LITELLM_URL=gateway.base_url,
        LITELLM_MASTER_KEY=gateway.key,
        TIP_PROMPT_VERSION=",".join(VERSIONS),
    )
    # Invented people have no business in a database that somebody else uses.
    environment.pop("OO_ML_DATABASE_URL", None)
    child = Child(
        name="The service",
        command=[sys.executable, "-m", "oo_ml", "serve", "--host", "127.0.0.1", "--port", str(port)],
        environment=environment,
        ready=f"http://127.0.0.1:{port}/health",
        log=data_dir / "service.log",
    )
    with running(child):
        yield f"http://127.0.0.1:{port}"


def main(
    weeks: Annotated[int, typer.Option(min=1, max=520, help="Weeks to simulate")] = 8,
    people: Annotated[int, typer.Option(min=1, max=len(PEOPLE), help="How many people")] = len(PEOPLE),
    seed: Annotated[int, typer.Option(min=0, help="Of the people's days; model and service draw for themselves")] = 1,
    data_dir: Annotated[Path, typer.Option(help="Where the database and the logs go")] = DEFAULT_DATA_DIR,
) -> None:
    """A day in the life of oO ML, without any account or key."""
    console = Console()
    try:
        data_dir = data_dir.absolute()
        data_dir.mkdir(parents=True, exist_ok=True)
        console.print("Starting the offline model (SmolLM2, 135 million parameters, on llama.cpp) and the service")
        with (
            offline_model(data_dir / "offline-model.log") as gateway,
            service(data_dir, gateway) as address,
            connect(address) as http,
        ):
            _play(Stage(http, PEOPLE[:people], np.random.default_rng(seed), console), weeks)
    except (OoMlError, httpx.TransportError) as error:
        console.print("The demo failed.", style="red")
        console.print(f"{error}\nThe logs are in {data_dir}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    _say_how_to_go_on(console, data_dir)


def _play(stage: Stage, weeks: int) -> None:
    for person in stage.people:
        call(stage.http, "POST", f"/reset/{person.user_id}")
    written = write_tips(stage)
    stage.console.print(
        "So small a model writes weak prose; what it shows is the way from a model to a tip. For example:"
    )
    show_examples(stage.console, written)
    decisions = live(stage, written, weeks)
    report(stage, written, decisions)


def _say_how_to_go_on(console: Console, data_dir: Path) -> None:
    program = Path(sys.executable).with_name("oo-ml")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    command = f"OO_ML_DATA_DIR={shlex.quote(str(data_dir))} {shlex.quote(str(program))} serve"
    console.print(f"The data is in {data_dir}. To start the service on it:", soft_wrap=True, highlight=False)
    console.print(f"  {command} --host 127.0.0.1 --port 8000", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    # An ordinary kill, too, stops what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    typer.run(main)
