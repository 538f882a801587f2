"""`oo-ml prompts`: publish, list, show, retire; and one line for whatever can't be done."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.commands import Done, oo_ml
from tests.gates import scalar


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A file with a system template."""
    file = tmp_path / "system.j2"
    file.write_text("Write {{ n }} tips. Straße, 100 %, it's :due.\n", "utf-8")
    return file


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A file with a user template."""
    file = tmp_path / "user.j2"
    file.write_text("{% for task in tasks %}{{ task.title }}\n{% endfor %}Now.\n", "utf-8")
    return file


def test_a_version_is_published_shown_and_retired(database_url: str, system: Path, user: Path) -> None:
    """Its text comes back as it was; retired it stays readable, and retiring it again changes nothing."""
    published = prompts(database_url, "publish", "v9", *files(system, user), "--description", "Terse")
    assert published == Done(0, "Published v9\n", "")
    shown = prompts(database_url, "show", "v9").out
    assert shown.startswith("# v9 (active, published ")
    assert system.read_text("utf-8") in shown
    assert user.read_text("utf-8") in shown
    assert prompts(database_url, "retire", "v9") == Done(0, "Retired v9\n", "")
    assert prompts(database_url, "retire", "v9") == Done(0, "Retired v9\n", "")
    assert prompts(database_url, "show", "v9").out == shown.replace("(active,", "(retired,")
    rows = [line.split("│") for line in prompts(database_url, "list").out.splitlines() if "│" in line]
    listed = [[cell.strip() for cell in row[1:-1]] for row in rows]
    assert [(name, status) for name, status, *_ in listed] == [
        ("v1", "active"),
        ("v2-mentor", "active"),
        ("v3-few-shot", "active"),
        ("v9", "retired"),
    ]
    assert listed[-1][-1] == "Terse"


def test_what_is_published_is_not_published_again(database_url: str, db: Engine, system: Path, user: Path) -> None:
    """The text that was there stays."""
    text_of_v1 = "SELECT md5(prompt_versions::text) FROM prompt_versions WHERE version = 'v1'"
    before = scalar(db, text_of_v1)
    assert prompts(database_url, "publish", "v1", *files(system, user)) == Done(
        1, "", "error: Prompt version v1 is published already; a published version never changes\n"
    )
    assert scalar(db, text_of_v1) == before


@pytest.mark.parametrize("template", ["", "{% for task in tasks %}", "{{ secret }}"])
def test_a_template_that_does_not_render_is_refused(
    database_url: str, db: Engine, system: Path, user: Path, template: str
) -> None:
    """When it is published, not when it is used: one line says which of the two and why."""
    user.write_text(template, "utf-8")
    done = prompts(database_url, "publish", "v9", *files(system, user))
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert done.err.startswith("error: user_template: ")
    assert scalar(db, "SELECT count(*) FROM prompt_versions WHERE version = 'v9'") == 0


def test_a_file_that_is_no_text_is_refused(database_url: str, system: Path, user: Path) -> None:
    """One line names the file."""
    user.write_bytes(b"\xff\xfe")
    done = prompts(database_url, "publish", "v9", *files(system, user))
    assert done == Done(1, "", f"error: {user} is not UTF-8\n")


@pytest.mark.parametrize("command", ["show", "retire"])
def test_an_unknown_version_is_an_error(database_url: str, command: str) -> None:
    """One line, exit code 1."""
    assert prompts(database_url, command, "v9") == Done(1, "", "error: Unknown prompt_version: v9\n")


def test_a_database_without_the_schema_says_what_to_do(empty_database_url: str) -> None:
    """One line, and no log of how that was found out."""
    assert prompts(empty_database_url, "list") == Done(
        1, "", "error: The database has not been migrated to this release: run `oo-ml db upgrade`\n"
    )


def files(system: Path, user: Path) -> list[str]:
    """The options that name the two templates."""
    return ["--system", str(system), "--user", str(user)]


def prompts(url: str, *words: str) -> Done:
    """Run `oo-ml prompts` on a database."""
    return oo_ml("prompts", *words, OO_ML_DATABASE_URL=url)


@pytest.mark.parametrize("command", ["show", "retire"])
def test_a_name_that_is_no_text_is_refused_at_the_door(command: str) -> None:
    """Bytes that are no UTF-8, and lines: told so, without a database and without a traceback."""
    for name in ("\udcff", "two\nlines"):
        done = oo_ml("prompts", command, name)
        assert done.code == 2
        assert "must be text on one line" in done.err
        assert "Traceback" not in done.err
