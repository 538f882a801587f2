"""A TypeScript client, generated from the OpenAPI document with the generator's defaults, compiles and works."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.docs.pages import PAGES, blocks

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).parents[1] / "typescript"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of tests/typescript with the packages of its lock installed."""
    if shutil.which("npm") is None:
        missing = "needs npm and node: apt-get install npm"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    copy = shutil.copytree(SOURCES, tmp_path / "typescript", ignore=shutil.ignore_patterns("node_modules"))
    run(copy, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    return copy


def test_the_readmes_calls_compile_and_work(serve: Serve, project: Path) -> None:
    """Every call, its fields, enums, outcomes, pages and codes; what wrong.ts holds does not compile."""
    service = serve(epsilon=0, litellm_url="http://127.0.0.1:1")
    [generate] = [block.content for block in blocks(PAGES["docs/api.md"].read_text("utf-8")) if "npx " in block.content]
    run(project, *shlex.split(generate.replace("http://localhost:8000", service.url)))
    run(project, "npx", "tsc", "--project", ".")
    run(project, "node", "out/client.js", service.url)


def run(directory: Path, *command: str) -> None:
    """Run a program, which has to succeed."""
    done = subprocess.run(  # noqa: S603 - programs of the lock
        command, cwd=directory, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
