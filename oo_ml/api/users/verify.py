"""GET /users/{user_id}/verify: the proof that what is known of a person is what they did."""

from fastapi import APIRouter, Request, Response

from oo_ml.api.bodies import answer
from oo_ml.api.dependencies import KNOWN_PARAMETERS_ONLY, services
from oo_ml.api.openapi import documented
from oo_ml.api.paths import REFUSALS, EncodedUserId, decode_user_id
from oo_ml.api.users.schemas import VerifyAnswer
from oo_ml.services.audit.verify import verify_users

router = APIRouter(tags=["people"], dependencies=[KNOWN_PARAMETERS_ONLY])


@router.get(
    "/users/{user_id}/verify",
    summary="Verify a user's state",
    **documented("verifyUser", gives=VerifyAnswer, raises=REFUSALS),
)
async def verify_user(request: Request, user_id: EncodedUserId) -> Response:
    """Fold the ledger and compare with A, b and the counters bit for bit, and the ledger with the decisions.

    The call locks and writes nothing. An unknown user has no states and is verified.
    """
    name = decode_user_id(user_id)
    [report] = await services(request).long.run(verify_users, [name])
    return answer(
        VerifyAnswer(
            user_id=name,
            verified=report.difference is None,
            states=report.states,
            changes=report.entries,
            decisions=report.decisions,
            difference=None if report.difference is None else report.difference.sentence,
        )
    )
