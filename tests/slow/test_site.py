"""The site of docs/: it builds without a warning, from its own lock, and loads nothing from elsewhere."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slow.environments import ROOT, docs_environment

pytestmark = pytest.mark.slow


def test_site(tmp_path: Path, announce: Callable[[str], None]) -> None:
    """Every page is in a table of contents, every link and picture resolves, and no page needs a network."""
    python = docs_environment(announce) / "bin/python"
    build = [str(python), "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603 - our own command
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        assert (
            re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(?:https?:)?//", page.read_text("utf-8")) == []
        )
