"""Integers in bodies: 4.0 is accepted as 4 everywhere, and other numbers are refused."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine

from oo_ml.api.schemas import Body
from tests import calls
from tests import gateway as behave
from tests.api.decisions.decisions import new_id
from tests.api.full_bodies import BODIES, REWARD, Place, change_field, places
from tests.api.prompts.test_generate import GOOD
from tests.conftest import Serve
from tests.gates import scalar
from tests.gateway import Gateway
from tests.serving import Service

INTEGERS = [
    (path, body, place)
    for path, (model, body) in BODIES.items()
    for owner, place in places(model, body)
    if owner.model_fields[str(place[-1])].annotation is int
]
NO_INTEGERS = ("4.5", "true", '"4"', "1e400", "-1e400", "NaN", "null", "[4]", '""', "0.9999999999999999")


@pytest.fixture
def service(serve: Serve, gateway: Gateway) -> Service:
    """The service, with a gateway that writes good tips."""
    gateway.script(behave.completion(GOOD))
    return serve(epsilon=0, litellm_url=gateway.url)


def write_number(body: dict[str, Any], place: Place, number: str) -> str:
    """Return a body as JSON with a number in exactly this notation."""
    return json.dumps(change_field(body, place, str(place[-1]), "the number")).replace('"the number"', number)


def problem_of(service: Service, path: str, place: Place, content: str) -> dict[str, Any] | None:
    """Send a body; return the problem of the field, None if there is no problem."""
    answer = service.client.post(path, content=content)
    told, location = answer.json(), list(place)
    if "batch" in path and "outcomes" in told:
        told, location = told["outcomes"][location[1]].get("error", {}), location[2:]
    if not isinstance(told.get("detail"), list):
        # Done, or of a decision that there is not.
        assert answer.status_code in {200, 404}
        return None
    [problem] = told["detail"]
    assert problem["loc"] == ["body", *location]
    return dict(problem)


def test_fields_of_this_module() -> None:
    """The tests cover integers of bodies, contexts, features, candidates and items."""
    assert {place[-1] for _, _, place in INTEGERS} == {"hour_of_day", "day_of_week", "priority", "n"}
    assert len(INTEGERS) > 15


@pytest.mark.parametrize(("path", "body", "place"), INTEGERS, ids=[f"{path} {place}" for path, _, place in INTEGERS])
def test_spellings_of_integers(service: Service, path: str, body: dict[str, Any], place: Place) -> None:
    """Any spelling of an integer is accepted, such as 4.0 and 4e0; other values are refused."""
    for number in ("2", "2.0", "2e0", "0.2e1", "2.00000000000000000000"):
        assert problem_of(service, path, place, write_number(body, place, number)) is None, number
    for number in NO_INTEGERS:
        problem = problem_of(service, path, place, write_number(body, place, number))
        assert problem is not None, number
        assert problem["type"] in {"int_type", "int_from_float"}, number
    for number in ("99", "99.0", "1" + "0" * 400, "-1", "-1.0"):
        problem = problem_of(service, path, place, write_number(body, place, number))
        assert problem is not None, number
        assert problem["type"] in {"less_than_equal", "greater_than_equal"}, number


def test_repetition_in_another_spelling(service: Service, db: Engine) -> None:
    """A request repeated with 9.0 in place of 9 is the same request, and 9 is stored."""
    body = calls.score(decision_id=new_id())
    first, again = (
        service.client.post("/score", content=write_number(body, ("context", "hour_of_day"), number))
        for number in ("9.0", "9")
    )
    assert (first.status_code, first.content) == (200, again.content)
    assert scalar(db, "SELECT context::text FROM oo_ml.feature_history") == '{"day_of_week": 2, "hour_of_day": 9}'
    for number, applied in (("4", True), ("4.0", False)):
        content = write_number(REWARD, ("features", "priority"), number)
        answer = service.client.post("/reward", content=content, headers={"Idempotency-Key": "k"})
        assert (answer.status_code, answer.json()["applied"]) == (200, applied)


def test_openapi(service: Service) -> None:
    """The document declares integers with their bounds; JSON Schema accepts 4.0 as an integer too."""
    schemas = service.client.get("/openapi.json").json()["components"]["schemas"]

    def below(base: type[Body]) -> set[type[Body]]:
        return {base}.union(*map(below, base.__subclasses__()))

    for model in below(Body):
        for name, field in model.model_fields.items():
            if field.annotation is int and model.__name__ in schemas:
                described = schemas[model.__name__]["properties"][name]
                assert described["type"] == "integer"
                assert {"minimum", "maximum"} <= described.keys()
