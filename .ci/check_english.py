"""Two rules of this project's English, checked in the files and directories named on the command line.

1. A docstring starts with an imperative or a noun phrase, never with a question word or a relative clause ("Whether it
   is open", "How a batch runs", "Of which table"). The same goes for texts of COMMENT ON and comments of JavaScript.
2. An actor is named: user, client, caller, session. The words of banned_words.txt occur nowhere: not in prose, not in
   messages, not as a part of a name. That file says what to write instead. A word alone in quotes or backticks is a
   name that others gave, such as the account `nobody`: it passes.

Exits with 1 after printing each place, then how many there are in each area.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = {
    ".css",
    ".html",
    ".ini",
    ".ipynb",
    ".js",
    ".lua",
    ".mako",
    ".md",
    ".py",
    ".service",
    ".sql",
    ".toml",
    ".ts",
    ".yaml",
}
INSTEAD = dict(
    line.split(": ", 1) for line in Path(__file__).with_name("banned_words.txt").read_text("utf-8").splitlines()
)
# An underscore ends a word too. Where a banned word has a space, a line may end, and a comment go on in the next.
WORDS = "|".join(INSTEAD).replace(" ", r"[\s_#/*-]+")
BANNED = re.compile(rf"(?<![a-z])(?:{WORDS})(?![a-z])", re.IGNORECASE)
QUESTION = r"((?:(?:at|by|for|from|in|of|on|to|with) )?(?:wh(?:at|en|ere|ether|ich|om?|ose|y)|how)(?:(?:so)?ever)?)\b"
OPENING = re.compile(QUESTION, re.IGNORECASE)
OPENINGS = {
    ".js": re.compile(rf"(?:\A//|/\*\*)\s*{QUESTION}", re.IGNORECASE),
    ".sql": re.compile(rf"\bIS\s+'{QUESTION}", re.IGNORECASE),
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def files(arguments: list[str]) -> Iterator[Path]:
    """Yield the files named, and those of a known kind in the directories named."""
    for path in map(Path, arguments):
        if path.is_dir():
            yield from sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES)
        else:
            yield path


def findings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and complaint, for each place of a file that breaks a rule."""
    text = path.read_text("utf-8")
    for match in BANNED.finditer(text):
        around = text[max(match.start() - 1, 0) : match.start()] + text[match.end() : match.end() + 1]
        if around in {'""', "``"}:
            continue
        word = re.sub(r"[^a-z]+", " ", match[0].lower())
        yield _line(text, match), f"{word!r}: name {INSTEAD[word]}"
    if path.suffix == ".py":
        for line, docstring in _docstrings(text):
            if opening := OPENING.match(docstring):
                yield line, f"a docstring starts with {opening[1]!r}"
    elif path.suffix in OPENINGS:
        for match in OPENINGS[path.suffix].finditer(text):
            yield _line(text, match), f"a comment starts with {match[1]!r}"


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and (docstring := ast.get_docstring(node)):
            yield node.body[0].lineno, docstring


def _line(text: str, match: re.Match[str]) -> int:
    """Return the number of the line where a match begins."""
    return text.count("\n", 0, match.start()) + 1


def main() -> int:
    """Print what was found; return 1 if anything was."""
    areas = Counter[str]()
    for path in files(sys.argv[1:]):
        for line, complaint in sorted(findings(path)):
            print(f"{path}:{line}: {complaint}")  # noqa: T201  (it is a command)
            areas["/".join(path.parts[:-1][:2]) or str(path)] += 1
    for area, count in sorted(areas.items()):
        print(f"{count:5} in {area}")  # noqa: T201
    return 1 if areas else 0


if __name__ == "__main__":
    sys.exit(main())
