"""A LiteLLM provider that repeats the replies of replies.json in order. Runs inside the gateway."""

import itertools
import json
from pathlib import Path

# Only the gateway's environment has it.
import litellm  # type: ignore[import-not-found, unused-ignore]

_SCRIPT = json.loads(Path(__file__).with_name("replies.json").read_text())


class Alternating(litellm.CustomLLM):  # type: ignore[misc, unused-ignore]
    """A provider with a list of replies."""

    def __init__(self) -> None:
        super().__init__()
        self.replies = itertools.cycle(_SCRIPT["replies"])

    async def acompletion(self, *_: object, **__: object) -> object:
        """Answer the next call."""
        message = {"role": "assistant", "content": next(self.replies)}
        answer = litellm.ModelResponse(choices=[{"index": 0, "finish_reason": "stop", "message": message}])
        answer.usage = litellm.Usage(**_SCRIPT["usage"])
        return answer


alternating = Alternating()
