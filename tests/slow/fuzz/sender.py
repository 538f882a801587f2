"""Requests that schemathesis makes from the OpenAPI document, and checks of their answers.

Importing schemathesis takes a second, so only the test that sends requests imports this module.
"""

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import httpx
import hypothesis
import requests
import schemathesis
from hypothesis import strategies
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.generation.case import Case
from schemathesis.specs.openapi import checks

from tests import openapi

AnyCase = Case[Any]

# Not checked: positive_data_acceptance, because JSON Schema can't express all that a valid request needs, such as an id
# without control characters; and ignored_auth, because each case is sent without a key as well.
_CHECKS: Final = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.allow_header_conformance,
)
# Without a key, the answer to a method that a path does not have is a 401 as well.
_CHECKS_WITH_KEY: Final = (*_CHECKS, checks.unsupported_method)
# Their answer is a 200, in which each invalid item has a refusal of its own.
_BATCHES: Final = frozenset({"scoreBatch", "rewardBatch"})
# Cases of one run of hypothesis.
_ROUND: Final = 100
_ROUND_SETTINGS: Final = hypothesis.settings(
    max_examples=_ROUND,
    # The seed of a round decides its cases. A failure is not made smaller, because the tables have changed meanwhile.
    database=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)


class Known(NamedTuple):
    """Values by which a request finds something: a user, a decision of the user with its tip, a version, a policy."""

    user_id: str
    decision_id: str
    tip_id: str
    version: str
    policy: str


@dataclass(frozen=True, slots=True)
class Target:
    """A service that demands keys, one of its keys, and what it knows."""

    url: str
    key: str
    known: Known


class Sender:
    """Sends each case of one operation twice, without a key and with one, and checks both answers.

    Attributes:
        without_key: the statuses of the answers to requests without a key.
        with_key: of those with one.
    """

    def __init__(self, operation_id: str, target: Target) -> None:
        self._target = target
        self._schema = schemathesis.openapi.from_dict(_without_security(openapi.document()))
        self._schema.config.update(base_url=target.url)
        operations = [found.ok() for found in self._schema.get_all_operations() if isinstance(found, Ok)]
        self._refuses = [] if operation_id in _BATCHES else [checks.negative_data_rejection]
        [self._operation] = [one for one in operations if one.definition.raw["operationId"] == operation_id]
        self._session = requests.Session()
        self.without_key: Counter[int] = Counter()
        self.with_key: Counter[int] = Counter()

    @property
    def sent(self) -> int:
        """The number of requests so far."""
        return self.without_key.total() + self.with_key.total()

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def send_limits(self) -> None:
        """Send the cases that schemathesis lists: limits of each field, missing and wrong fields, other methods."""
        generation = self._schema.config.generation
        for case in self._schema.iter_coverage_cases(
            self._operation, generation_modes=list(GenerationMode), generation_config=generation
        ):
            self._send(case)

    def send_drawn(self, seed: int, most: int) -> None:
        """Send cases that the seed draws, at most so many: some valid, some of them about known things, some not."""
        valid = strategies.builds(
            self._name_known,
            self._operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
            strategies.sets(strategies.sampled_from(Known._fields)),
        )
        invalid = self._operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

        @hypothesis.seed(seed)
        @hypothesis.settings(_ROUND_SETTINGS, max_examples=min(most, _ROUND))
        @hypothesis.given(case=valid | invalid)
        def send(case: AnyCase) -> None:
            self._send(case)

        send()

    def _name_known(self, case: AnyCase, names: set[str]) -> AnyCase:
        """Put known values into the fields of these names, if the case has them."""
        for part in (case.path_parameters, case.body):
            if isinstance(part, dict):
                part.update({name: getattr(self._target.known, name) for name in names & part.keys()})
        return case

    def _send(self, case: AnyCase) -> None:
        self._send_once(case, {}, _CHECKS, self.without_key)
        key = {"Authorization": f"Bearer {self._target.key}"}
        self._send_once(case, key, _CHECKS_WITH_KEY, self.with_key)

    def _send_once(
        self, case: AnyCase, headers: dict[str, str], checked: Sequence[CheckFunction], statuses: Counter[int]
    ) -> None:
        answer = case.call(session=self._session, headers=headers)
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=[*checked, *self._refuses])
        openapi.check(_for_httpx(answer))


def _without_security(document: dict[str, Any]) -> dict[str, Any]:
    """Return a copy in which no call needs a key; else a case could be invalid only for the key that it lacks."""
    copy: dict[str, Any] = deepcopy(document)
    for methods in copy["paths"].values():
        for call in methods.values():
            call.pop("security", None)
    del copy["components"]["securitySchemes"]
    return copy


def _for_httpx(answer: Response) -> httpx.Response:
    request = answer.request
    return httpx.Response(
        answer.status_code,
        headers={name: ", ".join(values) for name, values in answer.headers.items()},
        content=answer.content,
        request=httpx.Request(str(request.method), str(request.url)),
    )
