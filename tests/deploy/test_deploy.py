"""The files of deploy/ agree with the code: settings, commands, images, the model's name, and the times of a stop."""

import re
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest
from typer.core import TyperGroup

from oo_ml.cli.main import LazyCommand, app
from oo_ml.settings import Settings

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
FILES: Final = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.name != ".env")

SETTINGS: Final = {Settings.variable(name) for name in Settings.model_fields} | {
    f"{Settings.variable(name)}_FILE" for name in Settings.secrets()
}
# Variables of LiteLLM itself.
OF_THE_GATEWAY: Final = {"LITELLM_LOCAL_MODEL_COST_MAP"}

VARIABLE: Final = re.compile(r"\b(?:OO_ML_|LITELLM_)[A-Z_]*[A-Z]\b|\b(?:TIP|DEFAULT)_PROMPT_VERSION\b")
# The places of a command line: a script or a page, the lists of compose, Kubernetes and the Dockerfile, and a function
# of ci/rollout-host.
WRITTEN: Final = re.compile(r"^(?:ExecStart=|\w+=\S+ )*\S*/bin/oo-ml (.+)$|`oo-ml ([^`]+)`", re.MULTILINE)
LISTED: Final = re.compile(r"^\s*(?:command:|args:|CMD) \[(\"?(?:serve|db|upkeep|verify)\b.*)\]$", re.MULTILINE)
CALLED: Final = re.compile(r"^as_owner ([a-z].*)$", re.MULTILINE)
RUN: Final = re.compile(r"\bdocker run --rm oo-ml:\S+ ([^`\n]+)")


def _commands() -> list[tuple[str, str]]:
    found = []
    for path in FILES:
        text = path.read_text("utf-8")
        lines = [first or second for first, second in WRITTEN.findall(text)]
        lines += [listed.replace('"', "").replace(",", "") for listed in LISTED.findall(text)]
        lines += [*CALLED.findall(text), *RUN.findall(text)]
        found += [(str(path.relative_to(DEPLOY)), line) for line in lines]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_settings(path: Path) -> None:
    """Every variable of the service that a file names is a setting."""
    assert set(VARIABLE.findall(path.read_text("utf-8"))) <= SETTINGS | OF_THE_GATEWAY


def test_commands() -> None:
    """Every command line of `oo-ml` is accepted, with its arguments and options, and each kind of file has one."""
    commands = _commands()
    for path, line in commands:
        words = [word.replace('"$role"', "role") for word in shlex.split(line)]
        command: Any = app
        while isinstance(command, TyperGroup):
            assert words[0] in command.commands, f"{path}: {line}"
            command = command.commands[words.pop(0)]
            command = command.load() if isinstance(command, LazyCommand) else command
        # Arguments that the command does not take raise an error.
        command.make_context("oo-ml", words)
    assert {path for path, _ in commands} >= {
        "Dockerfile",
        "README.md",
        "ci/rollout-host",
        "compose.yaml",
        "kubernetes/migration/job.yaml",
        "systemd/oo-ml.service",
    }


def test_images() -> None:
    """Every image has a tag that names a version; that of oO ML is the version of this checkout."""
    images = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (DEPLOY / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    for path in FILES:
        if path.suffix == ".yaml":
            images += re.findall(r"^\s*image: (?:\$\{IMAGE:-)?([^\s}]+)\}?$", path.read_text("utf-8"), re.MULTILINE)
    tags = dict(image.rsplit(":", 1) for image in images)
    assert set(tags) == {"docker.io/library/python", "docker.io/library/postgres", "ghcr.io/berriai/litellm", "oo-ml"}
    assert [image for image, tag in tags.items() if not re.search(r"\d", tag)] == []
    assert {tag for image, tag in (image.rsplit(":", 1) for image in images) if image == "oo-ml"} == {version("oo-ml")}
    gateway = re.search(
        r"^litellm\[proxy\]==(.+)$", (ROOT / "requirements/litellm.in").read_text("utf-8"), re.MULTILINE
    )
    assert gateway is not None
    assert tags["ghcr.io/berriai/litellm"] == f"v{gateway[1]}"


def test_model_alias() -> None:
    """The gateway has one model, under the name for which the service asks."""
    written = (DEPLOY / "compose/litellm.yaml").read_text("utf-8")
    assert re.findall(r"model_name: (\S+)", written) == [Settings.model_fields["llm_model"].default]


def test_times_of_a_stop() -> None:
    """SIGKILL comes after the drain, the accepted calls, their transactions, and the last spans."""
    deployment = (DEPLOY / "kubernetes/service/deployment.yaml").read_text("utf-8")
    drain, calls = (
        int(_find(rf'name: {name}, value: "(\d+)"', deployment)) for name in ("OO_ML_DRAIN", "OO_ML_SHUTDOWN_TIMEOUT")
    )
    takes = drain + 2 * calls + 1
    compose = (DEPLOY / "compose.yaml").read_text("utf-8")
    unit = (DEPLOY / "systemd/oo-ml.service").read_text("utf-8")
    assert takes < int(_find(r"terminationGracePeriodSeconds: (\d+)", deployment))
    assert takes < int(_find(r"stop_grace_period: (\d+)s", compose))
    assert takes < int(_find(r"TimeoutStopSec=(\d+)", unit))
    assert takes < int(_find(r"stop --time (\d+)", (DEPLOY / "ci/rollout-host").read_text("utf-8")))


def test_build_lock() -> None:
    """The build backend in the image is that of pyproject.toml, locked as in the development lock."""
    build = (ROOT / "requirements/build.txt").read_text("utf-8")
    development = (ROOT / "requirements/development.txt").read_text("utf-8")
    pins = re.findall(r"^(\S+==\S+)", build, re.MULTILINE)
    assert set(pins) <= set(re.findall(r"^(\S+==\S+)", development, re.MULTILINE))
    assert f'requires = ["{pins[0]}"]' in (ROOT / "pyproject.toml").read_text("utf-8")


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, pattern
    return found[1]
