"""`oo-ml prompts`: publish, list, show, weigh, retire; and one line for whatever can't be done."""

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
    rows = listed(database_url)
    assert [(name, status) for name, status, *_ in rows] == [
        ("v1", "active"),
        ("v2-mentor", "active"),
        ("v3-few-shot", "active"),
        ("v9", "retired"),
    ]
    assert rows[-1][-1] == "Terse"


def listed(url: str, **settings: str) -> list[list[str]]:
    """Return the cells of the list's rows."""
    done = oo_ml("prompts", "list", OO_ML_DATABASE_URL=url, **settings)
    assert (done.code, done.err) == (0, "")
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if "│" in line]


def shares(url: str, **settings: str) -> list[tuple[str, str]]:
    """Return weight and share of v1, v2-mentor and v3-few-shot."""
    return [(weight, share) for _, _, weight, share, *_ in listed(url, **settings)]


def test_a_weight_is_a_share_of_the_traffic(database_url: str, db: Engine) -> None:
    """The list shows both; retired, a version has no share; with nobody's weight the default has it all."""
    assert shares(database_url) == [("0", "100.0%"), ("0", "0.0%"), ("0", "0.0%")]
    assert prompts(database_url, "weight", "v2-mentor", "0.3") == Done(
        0, "v2-mentor has the weight 0.3: 100.0% of the calls that name no version\n", ""
    )
    assert shares(database_url) == [("0", "0.0%"), ("0.3", "100.0%"), ("0", "0.0%")]
    assert prompts(database_url, "weight", "v3-few-shot", "0.9").out.endswith(
        " 0.9: 75.0% of the calls that name no version\n"
    )
    prompts(database_url, "weight", "v1", "2")
    stored = "SELECT array_agg(weight::text ORDER BY version) FROM oo_ml.prompt_versions"
    assert scalar(db, stored) == ["2", "0.3", "0.9"]
    prompts(database_url, "retire", "v1")
    assert shares(database_url) == [("2", "0.0%"), ("0.3", "25.0%"), ("0.9", "75.0%")]
    assert prompts(database_url, "weight", "v3-few-shot", "-0.0").out.startswith("v3-few-shot has the weight 0: 0.0% ")
    assert shares(database_url) == [("2", "0.0%"), ("0.3", "100.0%"), ("0", "0.0%")]


def test_the_list_tells_what_the_settings_make_of_the_weights(database_url: str) -> None:
    """TIP_PROMPT_VERSION says more than they do; by rewards, of which there are none, all are about alike."""
    prompts(database_url, "weight", "v2-mentor", "1")
    weights = ("0", "1", "0")
    for configured, expected in [
        ("v1,v2-mentor", [50, 50, 0]),
        ("v3-few-shot", [0, 0, 100]),
        ("auto", [33.3, 33.3, 33.3]),
    ]:
        found = shares(database_url, TIP_PROMPT_VERSION=configured)
        assert tuple(weight for weight, _ in found) == weights
        assert [float(share.removesuffix("%")) for _, share in found] == pytest.approx(expected, abs=3)


@pytest.mark.parametrize(
    ("version", "message"), [("v9", "Unknown prompt_version: v9"), ("v1", "Retired prompt_version: v1")]
)
def test_only_a_version_in_use_has_a_weight(database_url: str, db: Engine, version: str, message: str) -> None:
    """One line, exit code 1, and nothing is changed."""
    prompts(database_url, "retire", "v1")
    assert prompts(database_url, "weight", version, "1") == Done(1, "", f"error: {message}\n")
    assert scalar(db, "SELECT max(weight) FROM oo_ml.prompt_versions") == 0


@pytest.mark.parametrize("weight", ["-1", "nan", "inf", "-inf", "1e999"])
def test_a_weight_is_a_finite_number(weight: str) -> None:
    """Told so at the door, without a database."""
    done = oo_ml("prompts", "weight", "v1", weight)
    assert done.code == 2
    assert "must be a finite number, 0 or more" in done.err


def test_no_version_can_be_called_auto(database_url: str, system: Path, user: Path) -> None:
    """And where it means what it means it stands alone."""
    assert prompts(database_url, "publish", "auto", *files(system, user)) == Done(
        1, "", "error: No prompt version can be called auto: TIP_PROMPT_VERSION=auto means all of them\n"
    )
    assert oo_ml("prompts", "list", TIP_PROMPT_VERSION="v1, auto") == Done(
        1, "", "error: TIP_PROMPT_VERSION: auto means every version in use, so the list can hold no other name\n"
    )


def test_what_is_published_is_not_published_again(database_url: str, db: Engine, system: Path, user: Path) -> None:
    """The text that was there stays."""
    text_of_v1 = "SELECT md5(prompt_versions::text) FROM oo_ml.prompt_versions WHERE version = 'v1'"
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
    assert scalar(db, "SELECT count(*) FROM oo_ml.prompt_versions WHERE version = 'v9'") == 0


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
