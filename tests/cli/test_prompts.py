"""`oo-ml prompts`."""

import json
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


def test_life_of_a_version(database_url: str, system: Path, user: Path) -> None:
    """A published version has its text unchanged, is readable after it is retired, and can be retired again."""
    published = prompts(database_url, "publish", "v9", *files(system, user), "--description", "Terse")
    assert published == Done(0, "Published v9\n", "")
    shown = prompts(database_url, "show", "v9").out
    assert shown.startswith("# v9 (active, published ")
    assert system.read_text("utf-8") in shown
    assert user.read_text("utf-8") in shown
    assert prompts(database_url, "retire", "v9") == Done(0, "Retired v9\n", "")
    assert prompts(database_url, "retire", "v9") == Done(0, "Retired v9\n", "")
    assert prompts(database_url, "show", "v9").out == shown.replace("(active,", "(retired,")
    rows = list_cells(database_url)
    assert [(name, status) for name, status, *_ in rows] == [
        ("v1", "active"),
        ("v2-mentor", "active"),
        ("v3-few-shot", "active"),
        ("v9", "retired"),
    ]
    assert rows[-1][-1] == "Terse"


def test_parameters(database_url: str, system: Path, user: Path) -> None:
    """Parameters are published with the version, and shown by show and list."""
    given = ["--model", "big", "--temperature", "0", "--max-tokens", "300", "--response-format", "json_object"]
    stop = ["--stop", "END", "--stop", "- -"]
    assert prompts(database_url, "publish", "v9", *files(system, user), *given, *stop).code == 0
    shown = prompts(database_url, "show", "v9").out
    assert '# model: "big"\n# temperature: 0.0\n# max_tokens: 300\n' in shown
    assert '# response_format: "json_object"\n# stop: ["END", "- -"]\n' in shown
    assert [row[-2] for row in list_cells(database_url)] == ["-", "-", "-", "big"]
    [*_, listed] = json.loads(prompts(database_url, "list", "--json").out)
    assert (listed["model"], listed["max_tokens"], listed["stop"]) == ("big", 300, ["END", "- -"])


@pytest.mark.parametrize(
    ("option", "value", "name"),
    [("--temperature", "3", "temperature"), ("--max-tokens", "0", "max_tokens"), ("--stop", "", "stop")],
)
def test_invalid_parameters(database_url: str, system: Path, user: Path, option: str, value: str, name: str) -> None:
    """A parameter out of its range is one line that names it."""
    done = prompts(database_url, "publish", "v9", *files(system, user), option, value)
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert done.err.startswith(f"error: {name}: ")


def test_prices(database_url: str, db: Engine) -> None:
    """Prices are listed by model and day; the price of the same model and day is replaced."""
    assert prompts(database_url, "price", "big", "2.5", "10") == Done(0, "big costs 2.5 and 10 a million tokens\n", "")
    prompts(database_url, "price", "big", "3", "1e1", "--since", "2026-12-01")
    prompts(database_url, "price", "a small/one:free", "0", "0")
    prompts(database_url, "price", "big", "0.15", "0.6")
    assert prompts(database_url, "prices").out.splitlines() == [
        "model\tsince\tprompt\tcompletion",
        "a small/one:free\t1970-01-01\t0\t0",
        "big\t1970-01-01\t0.15\t0.6",
        "big\t2026-12-01\t3\t10",
    ]
    assert json.loads(prompts(database_url, "prices", "--json").out)[1] == {
        "model": "big",
        "since": "1970-01-01",
        "prompt_price": 0.15,
        "completion_price": 0.6,
    }
    assert scalar(db, "SELECT count(*) FROM oo_ml.audit_log WHERE action = 'model.priced'") == 4


@pytest.mark.parametrize("price", ["-1", "nan", "inf", "1e9", "cheap"])
def test_invalid_prices(price: str) -> None:
    """A price that is no number from 0 to a billion is refused with exit code 2, before any connection."""
    assert oo_ml("prompts", "price", "big", "1", price).code == 2


def list_cells(url: str, **settings: str) -> list[list[str]]:
    """Return the cells of the list's rows."""
    done = oo_ml("prompts", "list", OO_ML_DATABASE_URL=url, **settings)
    assert (done.code, done.err) == (0, "")
    return [line.split("\t") for line in done.out.splitlines()[1:]]


def shares(url: str, **settings: str) -> list[tuple[str, str]]:
    """Return weight and share of v1, v2-mentor and v3-few-shot."""
    return [(weight, share) for _, _, weight, share, *_ in list_cells(url, **settings)]


def test_weights(database_url: str, db: Engine) -> None:
    """The list has weights and shares; a retired version has no share; if all weights are 0, the default has 100 %."""
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


def test_shares_with_tip_prompt_version(database_url: str) -> None:
    """TIP_PROMPT_VERSION overrides weights; auto without rewards gives about equal shares."""
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
def test_weight_of_a_retired_or_unknown_version(database_url: str, db: Engine, version: str, message: str) -> None:
    """A retired or unknown version gets no weight: one line, exit code 1, and nothing changes."""
    prompts(database_url, "retire", "v1")
    assert prompts(database_url, "weight", version, "1") == Done(1, "", f"error: {message}\n")
    assert scalar(db, "SELECT max(weight) FROM oo_ml.prompt_versions") == 0


@pytest.mark.parametrize("weight", ["-1", "nan", "inf", "-inf", "1e999"])
def test_invalid_weights(weight: str) -> None:
    """A weight below 0 or not finite is refused with exit code 2, before any connection."""
    done = oo_ml("prompts", "weight", "v1", weight)
    assert done.code == 2
    assert "must be a finite number, 0 or more" in done.err


def test_reserved_name(database_url: str, system: Path, user: Path) -> None:
    """No version can be named auto, and in TIP_PROMPT_VERSION auto stands alone."""
    assert prompts(database_url, "publish", "auto", *files(system, user)) == Done(
        1, "", "error: No prompt version can be called auto: TIP_PROMPT_VERSION=auto means all of them\n"
    )
    assert oo_ml("prompts", "list", TIP_PROMPT_VERSION="v1, auto") == Done(
        1, "", "error: TIP_PROMPT_VERSION: auto means every version in use, so the list can hold no other name\n"
    )


def test_published_name(database_url: str, db: Engine, system: Path, user: Path) -> None:
    """A published version is never replaced."""
    text_of_v1 = "SELECT md5(prompt_versions::text) FROM oo_ml.prompt_versions WHERE version = 'v1'"
    before = scalar(db, text_of_v1)
    assert prompts(database_url, "publish", "v1", *files(system, user)) == Done(
        1, "", "error: Prompt version v1 is published already; a published version never changes\n"
    )
    assert scalar(db, text_of_v1) == before


@pytest.mark.parametrize("template", ["", "{% for task in tasks %}", "{{ secret }}"])
def test_invalid_template(database_url: str, db: Engine, system: Path, user: Path, template: str) -> None:
    """A template that can't be rendered is refused when it is published: one line says which and why."""
    user.write_text(template, "utf-8")
    done = prompts(database_url, "publish", "v9", *files(system, user))
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert done.err.startswith("error: user_template: ")
    assert scalar(db, "SELECT count(*) FROM oo_ml.prompt_versions WHERE version = 'v9'") == 0


def test_template_not_in_utf_8(database_url: str, system: Path, user: Path) -> None:
    """A file that is not UTF-8 is one line that names it."""
    user.write_bytes(b"\xff\xfe")
    done = prompts(database_url, "publish", "v9", *files(system, user))
    assert done == Done(1, "", f"error: {user} is not UTF-8\n")


@pytest.mark.parametrize("command", ["show", "retire"])
def test_unknown_version(database_url: str, command: str) -> None:
    """An unknown version is one line and exit code 1."""
    assert prompts(database_url, command, "v9") == Done(1, "", "error: Unknown prompt_version: v9\n")


def test_database_without_migrations(empty_database_url: str) -> None:
    """The error is one line that says what to do, without logs."""
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
def test_invalid_names(command: str) -> None:
    """A name that is not UTF-8 or has several lines is refused with exit code 2, before any connection."""
    for name in ("\udcff", "two\nlines"):
        done = oo_ml("prompts", command, name)
        assert done.code == 2
        assert "must be text on one line" in done.err
        assert "Traceback" not in done.err
