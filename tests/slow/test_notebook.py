"""The notebook in examples/: it learns a policy from an exported log, and `oo-ml evaluate` judges it."""

import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from oo_ml.storage.postgres import engine
from tests.commands import environment
from tests.conftest import ANALYST, as_role, make_settings
from tests.docs.analytics_world import weeks
from tests.slow.environments import ROOT, notebook_environment

pytestmark = pytest.mark.slow

NOTEBOOK: Final = ROOT / "examples" / "learn_a_policy.ipynb"


@pytest.fixture
def lived_url(other_database_url: str) -> str:
    """The address, for an analyst, of a database on which the simulated weeks of the docs were lived."""
    db = engine.create(other_database_url, make_settings(), threads=2)
    weeks.simulate(db)
    db.dispose()
    return as_role(other_database_url, ANALYST)


def test_notebook(lived_url: str, announce: Callable[[str], None], home: Path) -> None:
    """Every cell runs, and the policy that sees prompt versions earns more by the estimate than those of the log."""
    python = notebook_environment(announce)
    shutil.copy(NOTEBOOK, home)
    variables = environment(
        HOME=home,
        PATH=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]),
        OO_ML_DATABASE_URL=lived_url,
        OO_ML_DATABASE_CONNECT_TIMEOUT=20,
    )
    command = [str(python / "bin/jupyter-execute"), "--inplace", "--timeout=300", NOTEBOOK.name]
    done = subprocess.run(command, cwd=home, env=variables, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stderr
    cells = json.loads((home / NOTEBOOK.name).read_text("utf-8"))["cells"]
    printed = ["".join(text_of(output) for output in cell["outputs"]) for cell in cells if cell["cell_type"] == "code"]
    assert "9037 decisions with a reward" in printed[1]
    *_, judged, fields = filter(None, printed)
    assert "the target would have earned 0.4" in judged
    *_, doubtful, gain = fields.splitlines()
    assert doubtful == "doubtful: False []"
    assert float(gain.split()[1]) > 0


def text_of(output: dict[str, Any]) -> str:
    """Return the text of an output of a cell; a warning is an output too."""
    assert output["output_type"] in {"stream", "execute_result"}, output
    return "".join(output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"])


def test_notebook_without_outputs() -> None:
    """The notebook is stored without outputs."""
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    assert [cell["outputs"] for cell in cells if cell["cell_type"] == "code" and cell["outputs"]] == []
