"""The meters of lanes and pools, and the functions that count decisions, rewards and generations, in metrics."""

from collections.abc import Callable, Sequence
from functools import cache

from oo_ml.execution.meter import Meter
from oo_ml.llm.generation import Generation
from oo_ml.metrics import declarations as declared
from oo_ml.metrics.registry import Metrics
from oo_ml.services.decisions.decide import Answer
from oo_ml.services.decisions.learn import Lesson, Rewarded


def create_meter(metrics: Metrics, name: str) -> Meter:
    """Return the meter of the lanes or the pool with this name."""
    return Meter(
        waited=metrics.observe(declared.LANE_WAIT_SECONDS, name),
        shared=metrics.observe(declared.LANE_BATCH_SIZE, name),
        ended=metrics.observe(declared.TRANSACTION_SECONDS, name),
        retried=metrics.increase(declared.TRANSACTION_RETRIES, name),
        committed=_count_outcomes(metrics),
    )


def count_generations(metrics: Metrics) -> Callable[[str, Generation], None]:
    """Return the function that counts a generation by its prompt version."""

    def count(version: str, generation: Generation) -> None:
        outcome = generation.error.code if generation.error else "ok"
        metrics.observe(declared.GATEWAY_SECONDS, version, outcome)(generation.latency_ms / 1000)
        metrics.increase(declared.GATEWAY_TOKENS, version, "prompt")(generation.prompt_tokens)
        metrics.increase(declared.GATEWAY_TOKENS, version, "completion")(generation.completion_tokens)

    return count


def _count_outcomes(metrics: Metrics) -> Callable[[Sequence[object]], None]:
    """Return the function that counts the decisions and rewards among outcomes."""
    # By policy and, for decisions, by whether they were drawn at random.
    decisions = cache(
        lambda policy, explored: metrics.increase(declared.DECISIONS, policy, "true" if explored else "false")
    )
    unknown = cache(lambda policy, name: metrics.increase(declared.UNKNOWN_VALUES, policy, name))
    rewards = cache(lambda policy: metrics.increase(declared.REWARDS, policy))
    delays = cache(lambda policy: metrics.observe(declared.REWARD_DELAY_SECONDS, policy))

    def count(outcomes: Sequence[object]) -> None:
        for outcome in outcomes:
            match outcome:
                case Answer(content=content, explored=bool(explored), unknown=counts):
                    decisions(content["policy"], explored)()
                    for name, values in counts.items():
                        if values:
                            unknown(content["policy"], name)(values)
                case Rewarded(lesson=Lesson(policy=policy, delay=delay)):
                    rewards(policy)()
                    if delay is not None:
                        delays(policy)(delay)

    return count
