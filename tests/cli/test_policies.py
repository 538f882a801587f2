"""`oo-ml policies`."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Engine

from tests.commands import Done, oo_ml
from tests.gates import scalar
from tests.superuser import tamper

# The numbers of its lines stand in the tests.
DEFINITION: Final = """{
  "inputs": [
    {"name": "hour", "of": "context", "field": "hour_of_day", "encoding": "cyclic", "period": 24},
    {"name": "topic", "of": "candidate", "encoding": "category", "values": ["news", "sport"]},
    {"name": "age", "of": "candidate", "encoding": "number",
     "min": 0, "max": 30, "missing": 0}
  ],
  "terms": [
    {"one": true}, {"input": "age"},
    {"product": ["topic", "hour"], "times": 0.5}
  ],
  "rule": {"alpha": 1, "sigma": 0.3, "exploration": 0.02}
}
"""
LABELS: Final = [
    "one",
    "age",
    "topic=news x hour_sin",
    "topic=news x hour_cos",
    "topic=sport x hour_sin",
    "topic=sport x hour_cos",
]
EXAMPLE: Final = {
    "context": {"hour_of_day": 6},
    "candidates": [
        {"id": "t1", "features": {"topic": "news", "age": 15}, "content": "has no effect"},
        {"id": "t2", "features": {"topic": "weather"}},
    ],
}


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """A file with a definition."""
    file = tmp_path / "articles.json"
    file.write_text(DEFINITION, "utf-8")
    return file


def policies(url: str, *words: str) -> Done:
    """Run `oo-ml policies` on a database."""
    return oo_ml("policies", *words, OO_ML_DATABASE_URL=url)


def check(text: str, *words: str) -> Done:
    """Run `oo-ml policies check` on standard input, without a database."""
    return oo_ml("policies", "check", "-", *words, stdin=text, OO_ML_DATABASE_URL="postgresql://u@127.0.0.1:1/d")


def test_life_of_a_policy(database_url: str, db: Engine, definition: Path) -> None:
    """A published policy is shown as it was published, and can be retired more than once; the log has each action."""
    published = policies(database_url, "publish", "articles-v1", str(definition), "--description", "Which article")
    assert published == Done(0, "Published articles-v1\n", "")
    shown = policies(database_url, "show", "articles-v1").out
    assert shown.startswith("# articles-v1 (active, published ")
    head, _, body = shown.partition("\n\n")
    assert head.splitlines()[1:] == [
        "# Which article",
        f"# 6 features: {', '.join(LABELS)}",
        "# alpha 1, sigma 0.3, exploration 0.02",
    ]
    assert json.loads(body) == json.loads(DEFINITION)
    assert policies(database_url, "retire", "articles-v1") == Done(0, "Retired articles-v1\n", "")
    assert policies(database_url, "retire", "articles-v1") == Done(0, "Retired articles-v1\n", "")
    assert policies(database_url, "show", "articles-v1").out == shown.replace("(active,", "(retired,")
    logged = "SELECT array_agg(concat_ws(' ', actor, action, subject) ORDER BY entry_id) FROM oo_ml.audit_log"
    assert scalar(db, logged) == [
        f"(command line) policy.{action} articles-v1" for action in ("published", "retired", "retired")
    ]


def test_list(database_url: str, definition: Path) -> None:
    """The list has every policy with the rule by which a service with the same settings decides."""
    policies(database_url, "publish", "articles-v1", str(definition))
    policies(database_url, "retire", "uniform-v1")
    listed = oo_ml("policies", "list", OO_ML_DATABASE_URL=database_url, OO_ML_ALPHA=0.7, OO_ML_EXPLORATION=0.25)
    cells = {line.split("\t")[0]: line.split("\t")[1:] for line in listed.out.splitlines()}
    places = (0, 1, 3, 4)
    assert [cells["policy"][place] for place in places] == ["status", "features", "rule", "evidence"]
    assert [cells["linucb-v1"][place] for place in places] == [
        "active",
        "5",
        "alpha 0.7, exploration 0.25",
        "each user alone",
    ]
    assert [cells["uniform-v1"][place] for place in places[:3]] == ["retired", "1", "exploration 1"]
    assert cells["pooled-v1"][4] == "pooled, half-life 75 days"
    assert list(cells)[-1] == "articles-v1"


def test_definition_of_a_later_release(database_url: str, db: Engine) -> None:
    """The list says which policy this release can't read; `show` is an error, and so is to give it traffic."""
    tamper(
        db,
        """
        INSERT INTO oo_ml.policies (policy, status, published_at, description, definition, dimension)
        VALUES ('later-v1', 'active', now(), 'From then',
            '{"inputs": [], "terms": [{"one": true}], "rule": {"exploration": 1, "tau": 1}}', 1)
        """,
    )
    lines = policies(database_url, "list").out.splitlines()
    assert [line.split("\t")[0] for line in lines[-2:]] == ["uniform-v1", "later-v1"]
    assert lines[-1].split("\t")[4:] == ["of a later release", "of a later release", "From then"]
    assert json.loads(policies(database_url, "list", "--json").out)[-1]["rule"] is None
    for command in (["show", "later-v1"], ["traffic", "later-v1=1"]):
        refused = policies(database_url, *command)
        assert (refused.code, refused.out) == (1, "")
        assert refused.err.startswith("error: The policy later-v1 is of a later release, which this one can't read: ")


def test_json(database_url: str, definition: Path) -> None:
    """The records of list and show have the whole row; show adds the labels."""
    policies(database_url, "publish", "articles-v1", str(definition), "--description", "Which article")
    [*_, listed] = json.loads(policies(database_url, "list", "--json").out)
    shown = json.loads(policies(database_url, "show", "articles-v1", "--json").out)
    assert shown.pop("labels") == LABELS
    assert shown == listed
    assert shown["definition"] == json.loads(DEFINITION)
    assert (shown["policy"], shown["status"], shown["retired_at"], shown["dimension"]) == (
        "articles-v1",
        "active",
        None,
        6,
    )
    assert shown["rule"] == {"alpha": 1, "sigma": 0.3, "exploration": 0.02}


def test_evidence(database_url: str) -> None:
    """`show` and `check` say that a policy is pooled; what `show` prints can be checked."""
    shown = policies(database_url, "show", "pooled-v1").out
    head, _, body = shown.partition("\n\n")
    assert head.splitlines()[-1] == "# pooled, half-life 75 days"
    checked = check(body)
    assert checked.out.splitlines()[1:3] == head.splitlines()[-2:]
    assert json.loads(check(body, "--json").out)["evidence"] == {"prior": "population", "half_life_days": 75}
    always = check(DEFINITION.replace("}\n}", '},\n  "evidence": {"prior": "population"}\n}')).out
    assert always.splitlines()[2] == "# pooled"


def test_published_name(database_url: str, db: Engine, definition: Path) -> None:
    """A published policy is never replaced, and a refusal is not in the log of actions."""
    text = "SELECT md5(policies::text) FROM oo_ml.policies WHERE policy = 'linucb-v1'"
    before = scalar(db, text)
    assert policies(database_url, "publish", "linucb-v1", str(definition)) == Done(
        1, "", "error: Policy linucb-v1 is published already; a published policy never changes\n"
    )
    assert scalar(db, text) == before
    assert scalar(db, "SELECT count(*) FROM oo_ml.audit_log") == 0


@pytest.mark.parametrize("command", ["show", "retire"])
def test_unknown_policy(database_url: str, db: Engine, command: str) -> None:
    """An unknown policy is one line and exit code 1."""
    assert policies(database_url, command, "v9") == Done(1, "", "error: Unknown policy: v9\n")
    assert scalar(db, "SELECT count(*) FROM oo_ml.audit_log") == 0


@pytest.mark.parametrize("name", ["", "\udcff", "two\nlines", "a/b", "a=1", "-v1", "v" * 101, ".."])
@pytest.mark.parametrize("command", ["show", "retire", "publish"])
def test_invalid_names(definition: Path, command: str, name: str) -> None:
    """A name that would need an escape in a path is refused with exit code 2, before any connection."""
    done = oo_ml("policies", command, *(["--", name, str(definition)] if command == "publish" else ["--", name]))
    assert done.code == 2
    assert "must be 1 to 100 letters, digits" in done.err


def test_description_of_1001_bytes(definition: Path) -> None:
    """A description that the table can't hold is refused with exit code 2, before any connection."""
    done = oo_ml("policies", "publish", "v9", str(definition), "--description", "é" * 500 + "x")
    assert (done.code, "must be text of at most 1000 bytes" in done.err) == (2, True)


def test_publishing_an_invalid_definition(database_url: str, db: Engine, definition: Path) -> None:
    """An invalid definition is refused with the line and the place of each problem, and nothing is published."""
    definition.write_text(DEFINITION.replace('"max": 30', '"max": -1').replace('"alpha": 1', '"alpha": "1"'), "utf-8")
    assert policies(database_url, "publish", "v9", str(definition)) == Done(
        1,
        "",
        f"error: {definition}: line 6: inputs[2].max: must be above min\n"
        f"error: {definition}: line 12: rule.alpha: must be a valid number\n",
    )
    assert scalar(db, "SELECT count(*) FROM oo_ml.policies WHERE policy = 'v9'") == 0


def test_check(tmp_path: Path) -> None:
    """`check` shows x and the propensities for a new user; it says what does not differ, and counts unknown values."""
    example = tmp_path / "example.json"
    example.write_text(json.dumps(EXAMPLE), "utf-8")
    done = check(DEFINITION, "--example", str(example))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"# 6 features: {', '.join(LABELS)}",
        "# alpha 1, sigma 0.3, exploration 0.02",
        "feature\tt1\tt2",
        "one\t1\t1",
        "age\t0.5\t0",
        "topic=news x hour_sin\t0.5\t0",
        "topic=news x hour_cos\t0\t0",
        "topic=sport x hour_sin\t0\t0",
        "topic=sport x hour_cos\t0\t0",
        "propensity\t0.836875\t0.163125",
        f"# the same for all of these candidates: {', '.join([LABELS[0], *LABELS[3:]])}",
        "# topic: 1 of 2 candidates have a value that is not listed",
    ]


def test_check_with_json(tmp_path: Path) -> None:
    """The report has labels, rule, and of each candidate x and the propensity."""
    example = tmp_path / "example.json"
    example.write_text(json.dumps(EXAMPLE), "utf-8")
    found = json.loads(check(DEFINITION, "--example", str(example), "--json").out)
    assert (found["valid"], found["dimension"], found["labels"]) == (True, 6, LABELS)
    assert found["rule"] == {"alpha": 1, "sigma": 0.3, "exploration": 0.02}
    assert [(one["id"], one["x"][1]) for one in found["candidates"]] == [("t1", 0.5), ("t2", 0)]
    assert sum(one["propensity"] for one in found["candidates"]) == pytest.approx(1)
    assert (found["example"], found["unknown_values"]) == (None, {"topic": 1})


def test_example_of_the_definition(tmp_path: Path) -> None:
    """Without an example `check` makes one: it has values in range, and can be sent back as an example of one's own."""
    printed = check(DEFINITION).out
    [line] = [line for line in printed.splitlines() if line.startswith("# example: ")]
    made = json.loads(line.removeprefix("# example: "))
    assert made == {
        "context": {"hour_of_day": 6},
        "candidates": [
            {"id": "a", "features": {"topic": "news", "age": 7.5}},
            {"id": "b", "features": {"topic": "sport", "age": 22.5}},
            {"id": "c", "features": {"topic": "news"}},
        ],
    }
    example = tmp_path / "example.json"
    example.write_text(json.dumps(made), "utf-8")
    assert check(DEFINITION, "--example", str(example)).out == printed.replace(f"{line}\n", "")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"max": 30,', '"max": 0,', "line 6: inputs[2].max: must be above min"),
        (', "max": 30', "", "line 5: inputs[2].max: is missing: add it"),
        ('"hour"]', '"day"]', "line 10: terms[2].product: no input has the name 'day'; the inputs: hour, topic, age"),
        ('"sigma"', '"sígma"', "line 12: rule.sígma: is no part of a definition: leave it out"),
        ('"sigma"', '"\\u001b"', "rule.\\x1b: is no part of a definition"),
        ("30,", "30,,", "line 6: column 26: not JSON: Expecting property name enclosed in double quotes"),
        ("30", "9" * 5000, "a number has too many digits"),
        ("30", "[" * 100_000, "nested too deeply"),
        ("30", " " * 1_000_000, "larger than 1000000 bytes"),
        ("{", "[]{", "line 1: column 3: not JSON: Extra data"),
    ],
)
def test_check_of_an_invalid_definition(old: str, new: str, problem: str) -> None:
    """A problem is one line with the line in the text and the place in the document, without escape sequences."""
    done = check(DEFINITION.replace(old, new, 1))
    assert (done.code, done.out) == (1, "")
    assert problem in done.err.splitlines()[0]
    assert all(line.startswith("error: ") and line.isprintable() for line in done.err.splitlines())


def test_problems_with_json() -> None:
    """With --json the problems are records on standard output."""
    done = check(DEFINITION.replace("24", "0").replace("0.02", "2"), "--json")
    assert (done.code, done.err) == (1, "")
    found = json.loads(done.out)
    assert found["valid"] is False
    assert [(one["line"], one["place"]) for one in found["problems"]] == [
        (3, "inputs[0].period"),
        (12, "rule.exploration"),
    ]


@pytest.mark.parametrize(
    ("example", "problem"),
    [
        ({}, "line 1: candidates: is missing: add it"),
        ({"candidates": []}, "line 2: candidates: must have at least 1 item"),
        ({"candidates": [{"features": {}}]}, "line 3: candidates[0].id: is missing: add it"),
        ({"candidates": [{"id": "a"}]}, "line 1: context.hour_of_day: is missing: add it"),
        (
            EXAMPLE | {"candidates": [{"id": "a", "features": {"topic": "news", "age": "1"}}]},
            "line 10: candidates[0].features.age: must be a finite number",
        ),
        (
            EXAMPLE | {"candidates": [{"id": "a", "features": {"topic": "news"}}, {"id": "b"}]},
            "line 12: candidates[1].features.topic: is missing: add it",
        ),
    ],
)
def test_invalid_example(tmp_path: Path, example: Any, problem: str) -> None:  # noqa: ANN401
    """A problem of an example is a line with the name of its file."""
    file = tmp_path / "example.json"
    file.write_text(json.dumps(example, indent=1), "utf-8")
    assert check(DEFINITION, "--example", str(file)) == Done(1, "", f"error: {file}: {problem}\n")


def test_standard_input_twice() -> None:
    """Standard input can hold one document."""
    done = check(DEFINITION, "--example", "-")
    assert (done.code, "standard input can hold the definition or the example, not both" in done.err) == (2, True)


def test_missing_file() -> None:
    """A file that is not there is exit code 2."""
    assert oo_ml("policies", "check", "/nonexistent/file").code == 2


def test_file_not_in_utf_8(definition: Path) -> None:
    """A file that is not UTF-8 is one line that names it; a byte order mark is no error."""
    definition.write_bytes(b"\xff\xfe")
    assert oo_ml("policies", "check", str(definition)) == Done(1, "", f"error: {definition}: not UTF-8\n")
    definition.write_text(DEFINITION, "utf-8-sig")
    assert oo_ml("policies", "check", str(definition)).code == 0
