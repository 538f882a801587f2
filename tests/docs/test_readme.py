"""The README names only calls, targets and locks that exist."""

import re
from pathlib import Path
from typing import Final

from tests.serving import Service

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text("utf-8")


def test_calls(service: Service) -> None:
    """The table has every call of the OpenAPI document and no other."""
    table = README.split("## The calls")[1].split("\n## ")[0].split("http://")[0]
    named = {path for path in re.findall(r"/[a-z]+[a-z/{}_-]*", re.sub(r"\]\(.*?\)", "", table)) if path != "/egreedy"}
    assert named == service.client.get("/openapi.json").json()["paths"].keys()


def test_make_targets() -> None:
    """The Makefile has every target that the README names."""
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"make ([a-z-]+)", README)) <= set(targets)


def test_locks() -> None:
    """The lock of the runtime is a part of the lock of development, so the tests run on the releases of a wheel."""
    runtime, development = (
        set(re.findall(r"^[a-z0-9-]+==\S+", (ROOT / "requirements" / f"{name}.txt").read_text("utf-8"), re.MULTILINE))
        for name in ("runtime", "development")
    )
    assert runtime
    assert runtime <= development
