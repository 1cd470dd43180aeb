"""Whether questions that failed in a finished stage are asked again: the key `retry_failed`."""

from runner.core.artifact import Artifact
from runner.core.errors import ConfigError
from runner.core.specs import Parallelism


def check(retry: bool | None, parallelism: Parallelism, key: str) -> None:
    """Nodes do not know of each other what is asked again.

    Raises:
        ConfigError: with the key.
    """
    if retry and parallelism.nodes > 1:
        raise ConfigError(f"{key}.retry_failed", "works on one node", "Say parallelism.nodes=1 for it.")


def judged(retry: bool | None, made: Artifact, stage: str) -> tuple[str, str]:
    """For the planner: whether the finished stage of that name is run or reused, and why."""
    failed = made.metrics.get("errors", 0)
    if not failed:
        return "reuse", "complete"
    answers = f"{failed} answer{'s' if failed > 1 else ''} failed"
    if retry:
        return "run", f"{answers}, asked again"
    return "reuse", f"complete, {answers} (stages.{stage}.retry_failed=true asks again)"
