"""The recorded calls of the file-based service."""

import json
import math
from pathlib import Path
from typing import Any

from tests.serving import Service

TRACE = Path(__file__).parent.parent / "data" / "trace.jsonl"


def test_recorded_calls(service: Service) -> None:
    """415 recorded calls get the same status and values within 1e-9; answers may have further fields."""
    calls = [json.loads(line) for line in TRACE.read_text("utf-8").splitlines()]
    assert len(calls) == 415
    for number, call in enumerate(calls, 1):
        answer = service.client.request(call["method"], call["path"], json=call["body"])
        where = f"call {number}: {call['method']} {call['path']}"
        assert answer.status_code == call["status"], where
        assert_says(answer.json(), call["expect"], where)


def assert_says(answer: Any, expected: Any, where: str) -> None:  # noqa: ANN401 - JSON
    """Assert that `answer` holds all that is `expected`, numbers within 1e-9 relative or 1e-12 absolute."""
    match expected:
        case dict():
            assert expected.keys() <= answer.keys(), where
            for key, value in expected.items():
                assert_says(answer[key], value, f"{where} {key}")
        case list():
            assert len(answer) == len(expected), where
            for index, value in enumerate(expected):
                assert_says(answer[index], value, f"{where} [{index}]")
        case float():
            assert math.isclose(answer, expected, rel_tol=1e-9, abs_tol=1e-12), where
        case _:
            assert answer == expected, where
