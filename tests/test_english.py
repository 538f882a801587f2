"""The linter of this project's English."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

LINTER = Path(__file__).parents[1] / ".ci/check_english.py"
LOADED = runpy.run_path(str(LINTER))
BANNED_WORDS = list(LOADED["INSTEAD"])


def lint(file: Path, text: str) -> list[tuple[int, str]]:
    """Write a file; return what is found in it, by line."""
    file.write_text(text, "utf-8")
    return list(LOADED["findings"](file))


@pytest.mark.parametrize("word", BANNED_WORDS)
def test_banned_words(tmp_path: Path, word: str) -> None:
    """A banned word is found in any case, in prose and in names, even across two lines."""
    for text in (f"# {word.upper()}'s row", f"test_{word.replace(' ', '_')}_row", "# " + word.replace(" ", "\n# ")):
        [(line, complaint)] = lint(tmp_path / "file.md", f"\n{text}\n")
        assert line == 2
        assert complaint.startswith(f"'{word}': ")
    assert lint(tmp_path / "file.md", f'`{word}` and "{word}"') == []
    assert len(lint(tmp_path / "file.md", f'"{word} is" `{word}"')) == 2


@pytest.mark.parametrize("opening", ["What", "which", "Whether", "Who", "Whose", "Whom", "Where", "When", "Of which"])
@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("module.py", '"""{} rows.\n\nAnd more.\n"""\n'),
        ("klass.py", 'class C:\n    """\n    {} rows."""\n'),
        ("function.py", 'async def f():\n    """{} rows."""\n'),
        ("script.js", "// {} rows."),
        ("function.js", "const y = x;\n\n/** {} rows. */"),
        ("comment.sql", "COMMENT ON TABLE t IS '{} rows.'"),
    ],
)
def test_openings_of_documentation(tmp_path: Path, name: str, template: str, opening: str) -> None:
    """Documentation starts with an imperative or a noun phrase, never with a question word or a relative clause."""
    [(_, complaint)] = lint(tmp_path / name, template.format(opening))
    assert complaint.endswith(f" starts with '{opening}'")
    for allowed in ("Return the", "The", "Tell whether", "Wholesale"):
        assert lint(tmp_path / name, template.format(allowed)) == []


@pytest.mark.parametrize("suffix", sorted(LOADED["SUFFIXES"]))
def test_exit_code(tmp_path: Path, suffix: str) -> None:
    """The linter fails if any file of a known kind in a directory breaks a rule, and prints the place."""
    command = [sys.executable, str(LINTER), str(tmp_path)]
    (tmp_path / "good.py").write_text('"""Rows of each user."""\n', "utf-8")
    assert subprocess.run(command, check=False, capture_output=True, text=True).returncode == 0  # noqa: S603
    bad = tmp_path / "rows" / f"bad{suffix}"
    bad.parent.mkdir()
    bad.write_text(f"# {BANNED_WORDS[0]}\n", "utf-8")
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 1
    assert done.stdout.startswith(f"{bad}:1: '{BANNED_WORDS[0]}': ")
