"""The README says what is so."""

import re
from pathlib import Path

from pydantic import SecretStr

from oo_ml.settings import Settings
from tests.serving import Service

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def test_every_setting_stands_there_with_its_default() -> None:
    """Name, default and meaning, as the code has them, and no setting that isn't one."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*) \| (.*) \|$", README, re.MULTILINE)
    assert rows == [
        (Settings.variable(name), _default(name), field.description) for name, field in Settings.model_fields.items()
    ]


def test_every_call_named_there_exists(service: Service) -> None:
    """And every call that exists is named."""
    table = README[README.index("| call | |") : README.index("User ids are percent-encoded")]
    named = {path for path in re.findall(r"/[a-z]+[a-z/{}_-]*", re.sub(r"\]\(.*?\)", "", table)) if path != "/egreedy"}
    assert named == service.client.get("/openapi.json").json()["paths"].keys()


def test_every_promise_names_a_test_that_exists() -> None:
    """Each sentence of the section names one at least, by file and function."""
    section = README.split("## What you can rely on")[1].split("\n## ")[0]
    promises = [line for line in section.splitlines() if line.startswith("- ")]
    assert len(promises) > 10
    for promise in promises:
        named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", promise)
        assert named, promise
        for file, function in named:
            assert re.search(rf"^def {function}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE), (file, function)


def test_every_make_target_named_there_exists() -> None:
    """A stranger types what stands there."""
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"make ([a-z-]+)", README)) <= set(targets)


def test_a_wheel_is_checked_with_what_the_tests_ran_on() -> None:
    """The lock of the runtime is part of the lock of development."""
    runtime, development = (
        set(re.findall(r"^[a-z0-9-]+==\S+", (ROOT / "requirements" / f"{name}.txt").read_text("utf-8"), re.MULTILINE))
        for name in ("runtime", "development")
    )
    assert runtime
    assert runtime <= development


def _default(name: str) -> str:
    if name == "data_dir":
        return "`~/.local/share/oo-ml`"
    match Settings.model_fields[name].get_default():
        case None | "":
            return ""
        case float(number):
            return f"`{number:g}`"
        case SecretStr() as secret:
            return f"`{secret.get_secret_value()}`"
        case value:
            return f"`{value}`"
