"""Exit codes of commands. tests/cli/test_verify.py interrupts one."""

import pytest

from oo_ml.cli.exit_codes import MEANINGS, ExitCode
from tests.commands import oo_ml_process


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--version", ExitCode.DONE),
        ("settings", ExitCode.DONE),
        ("db current", ExitCode.FAILED),
        ("verify --sample 0", ExitCode.USAGE),
        ("keys", ExitCode.USAGE),
    ],
)
def test_exit_codes(words: str, code: ExitCode) -> None:
    """A command that worked exits with 0, a command that failed with 1, and wrong arguments with 2."""
    done = oo_ml_process(*words.split(), OO_ML_DATABASE_URL="postgresql://u@/d?host=/nonexistent")
    assert done.code == code
    assert (done.err == "") == (code is ExitCode.DONE)


def test_exit_codes_in_the_help() -> None:
    """`oo-ml --help` states every exit code."""
    said = " ".join(oo_ml_process("--help").out.split())
    assert all(f"{code:d} ({meaning})" in said for code, meaning in MEANINGS.items())
