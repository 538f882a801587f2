"""Lines of the log: their two forms, the id of the request, and tracebacks without messages."""

import json
import logging
import re
from contextvars import copy_context
from typing import NoReturn

import pytest

from oo_ml.logs import REQUEST_ID, configure_logging
from oo_ml.setting_choices import LogFormat, LogLevel
from tests.commands import run

USER = "peculiarada"
logger = logging.getLogger("oo_ml.some.module")


def fail(user: str) -> NoReturn:
    """Raise an error that another error caused; both quote the user."""
    raise ValueError(user) from KeyError(user)


def log_an_error(form: LogFormat) -> str:
    """Return the line of an error in a request; it quotes a user."""

    def program() -> None:
        configure_logging(LogLevel.INFO, form)
        REQUEST_ID.set("r-17")
        try:
            fail(USER)
        except ValueError:
            logger.exception("it failed")

    return copy_context().run(run, program).err


@pytest.mark.parametrize("form", LogFormat)
def test_traceback(form: LogFormat) -> None:
    """A traceback has the types of all exceptions and their places, but not their messages."""
    written = log_an_error(form)
    assert USER not in written
    frames = json.loads(written)["exception"] if form is LogFormat.JSON else written
    found = re.findall(r"^(?:KeyError|ValueError|    raise .*)$", frames, re.MULTILINE)
    assert found == ["KeyError", "    raise ValueError(user) from KeyError(user)", "ValueError"]


def test_json() -> None:
    """A line in JSON is one line, with the level, the logger, the event and the request."""
    [line] = log_an_error(LogFormat.JSON).splitlines()
    told = json.loads(line)
    assert told.pop("timestamp").endswith("Z")
    assert "Traceback" in told.pop("exception")
    assert told == {"level": "error", "logger": "oo_ml.some.module", "event": "it failed", "request_id": "r-17"}


def test_text() -> None:
    """The text of a line ends with the request; the traceback follows."""
    first, second, *_ = log_an_error(LogFormat.TEXT).splitlines()
    assert re.fullmatch(r"[-\d]+ [\d:,]+ ERROR oo_ml\.some\.module: it failed \[r-17\]", first)
    assert second == "Traceback (most recent call last):"


@pytest.mark.parametrize("form", LogFormat)
def test_outside_of_requests(form: LogFormat) -> None:
    """Outside of a request a line has no id, and a chatty library logs warnings only."""

    def program() -> None:
        configure_logging(LogLevel.DEBUG, form)
        logger.info("it goes on")
        logging.getLogger("httpx").info("POST http://example.com")

    [line] = run(program).err.splitlines()
    assert "request_id" not in line
    assert "it goes on" in line
    assert not line.endswith("]")
