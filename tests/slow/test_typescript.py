"""A TypeScript client, generated from the OpenAPI document with the generator's defaults, compiles and works."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.docs.pages import PAGES, find_blocks

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


def test_generated_client(serve: Serve, project: Path) -> None:
    """The modules of tests/typescript/ and of the guide compile and work; the former makes every call."""
    service = serve(epsilon=0, litellm_url="http://127.0.0.1:1")
    guide = find_blocks(
        PAGES["docs/guides/integrate.md"].read_text("utf-8").replace("http://localhost:8000", service.url)
    )
    [generate] = [block.content for block in guide if "npx " in block.content]
    (project / "guide.ts").write_text("".join(block.content for block in guide if block.language == "ts"), "utf-8")
    run(project, *shlex.split(generate))
    run(project, "npx", "tsc", "--project", ".")
    run(project, "node", "out/client.js", service.url)
    assert run(project, "node", "out/guide.js") == "Show t1\nCounted: true\n"


def run(directory: Path, *command: str) -> str:
    """Run a program that must succeed; return its output."""
    done = subprocess.run(  # noqa: S603 - programs of the lock
        command, cwd=directory, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout
