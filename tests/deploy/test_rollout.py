"""deploy/ci/rollout-kubernetes with a stand-in for kubectl, which notes its calls."""

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

SCRIPT: Final = Path(__file__).parents[2] / "deploy/ci/rollout-kubernetes"

KUBECTL: Final = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$1 $2" in
    "kustomize "*/migration) echo "name: migration, image: oo-ml:0.1.0" ;;
    "kustomize "*/service) echo "name: service, image: oo-ml:0.1.0" ;;
    "apply -f") cat >> "$CALLS" ;;
    "get job/oo-ml-migration") echo "SuccessCriteriaMet $JOB" ;;
    "get deployment/oo-ml") exit "$MISSING" ;;
    "rollout status") [ "$READY" = yes ] || grep -q "rollout undo" "$CALLS" ;;
esac
"""


@pytest.mark.parametrize(
    ("job", "ready", "missing", "code", "applied", "undone"),
    [
        ("Complete", "yes", "0", 0, ["migration", "service"], False),
        ("Complete", "yes", "1", 0, ["migration", "service"], False),
        ("Failed", "yes", "0", 1, ["migration"], False),
        ("Complete", "no", "0", 1, ["migration", "service"], True),
        ("Complete", "no", "1", 1, ["migration", "service"], False),
    ],
    ids=["ready", "first", "migration fails", "not ready", "first, not ready"],
)
def test_rollout(
    job: str, ready: str, missing: str, code: int, applied: list[str], undone: bool, tmp_path: Path
) -> None:
    """No pod is replaced without a migrated database, and pods that do not become ready give way to those before."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL, "utf-8")
    kubectl.chmod(0o700)
    calls = tmp_path / "calls"
    done = subprocess.run(  # noqa: S603 - the script of this checkout
        ["timeout", "30", SCRIPT, "registry.example.com/oo-ml@sha256:1"],  # noqa: S607
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "JOB": job,
            "READY": ready,
            "MISSING": missing,
            "POLL_SECONDS": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    lines = calls.read_text("utf-8").splitlines()
    assert [line for line in lines if "image:" in line] == [
        f"name: {name}, image: registry.example.com/oo-ml@sha256:1" for name in applied
    ]
    assert ("rollout undo deployment/oo-ml" in lines) is undone
