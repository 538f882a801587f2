"""Every integer of every body may be written 4.0; what is no integer is refused, and 4.0 is 4 in all that follows."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine

from oo_ml.api.schemas import Body
from tests import calls
from tests import gateway as behave
from tests.api.decisions.test_decisions import new_id
from tests.api.full_bodies import BODIES, REWARD, Place, changed, places
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


def written(body: dict[str, Any], place: Place, number: str) -> str:
    """Return a body as JSON with a number written just so."""
    return json.dumps(changed(body, place, str(place[-1]), "the number")).replace('"the number"', number)


def problem_of(service: Service, path: str, place: Place, content: str) -> dict[str, Any] | None:
    """Send a body; return what is wrong with the one field, None if nothing is."""
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


def test_there_are_such_fields() -> None:
    """Of bodies, contexts, features, candidates and items."""
    assert {place[-1] for _, _, place in INTEGERS} == {"hour_of_day", "day_of_week", "priority", "n"}
    assert len(INTEGERS) > 15


@pytest.mark.parametrize(("path", "body", "place"), INTEGERS, ids=[f"{path} {place}" for path, _, place in INTEGERS])
def test_an_integer_may_be_written_as_it_likes(service: Service, path: str, body: dict[str, Any], place: Place) -> None:
    """As long as it is one."""
    for number in ("2", "2.0", "2e0", "0.2e1", "2.00000000000000000000"):
        assert problem_of(service, path, place, written(body, place, number)) is None, number
    for number in NO_INTEGERS:
        problem = problem_of(service, path, place, written(body, place, number))
        assert problem is not None, number
        assert problem["type"] in {"int_type", "int_from_float"}, number
    for number in ("99", "99.0", "1" + "0" * 400, "-1", "-1.0"):
        problem = problem_of(service, path, place, written(body, place, number))
        assert problem is not None, number
        assert problem["type"] in {"less_than_equal", "greater_than_equal"}, number


def test_it_is_the_same_request(service: Service, db: Engine) -> None:
    """A decision or a reward that comes again with 9.0 in the place of 9 is known, and 9 is what is stored."""
    body = calls.score(decision_id=new_id())
    first, again = (
        service.client.post("/score", content=written(body, ("context", "hour_of_day"), number))
        for number in ("9.0", "9")
    )
    assert (first.status_code, first.content) == (200, again.content)
    assert scalar(db, "SELECT context::text FROM oo_ml.feature_history") == '{"day_of_week": 2, "hour_of_day": 9}'
    for number, applied in (("4", True), ("4.0", False)):
        content = written(REWARD, ("features", "priority"), number)
        answer = service.client.post("/reward", content=content, headers={"Idempotency-Key": "k"})
        assert (answer.status_code, answer.json()["applied"]) == (200, applied)


def test_openapi_calls_them_integers(service: Service) -> None:
    """With their bounds; JSON Schema too takes 4.0 for an integer."""
    schemas = service.client.get("/openapi.json").json()["components"]["schemas"]

    def below(base: type[Body]) -> set[type[Body]]:
        return {base}.union(*map(below, base.__subclasses__()))

    for model in below(Body):
        for name, field in model.model_fields.items():
            if field.annotation is int and model.__name__ in schemas:
                described = schemas[model.__name__]["properties"][name]
                assert described["type"] == "integer"
                assert {"minimum", "maximum"} <= described.keys()
