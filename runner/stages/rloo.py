"""Reinforcement learning with the other answers to a prompt as baseline, an answer taken as one action: RLOO."""

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt, Interval

from runner.core.schema import component
from runner.core.specs import Count
from runner.stages._sampled import Sampled

if TYPE_CHECKING:
    from runner.rollouts.sampler import Sampler
    from runner.rollouts.updates import Rules
    from runner.training.algorithm import Algorithm


@component
class Rloo(Sampled):
    """RLOO, counted in prompts. Names and defaults as in TRL's RLOOConfig.

    beta: weight of an answer's divergence from the reference, taken from its reward. epsilon, epsilon_high: bounds of
    the ratio of an answer's new to its old probability. mask_truncated_completions: answers that were cut off carry no
    loss.
    """

    num_generations: Count = 2
    beta: Annotated[float, Ge(0)] = 0.05
    epsilon: Annotated[float, Interval(gt=0.0, lt=1.0)] = 0.2
    epsilon_high: Annotated[float, Gt(0)] | None = None
    mask_truncated_completions: bool = False

    def algorithm(self, tokenizer: Any, hub: str, prepared: Any) -> "Algorithm":
        """See algorithms/rloo.py."""
        from runner.algorithms.rloo import Rloo as Loss

        temperature = self.sampling.temperature or 1.0
        return Loss(epsilon=self.epsilon, epsilon_high=self.epsilon_high, temperature=temperature)

    @property
    def measured(self) -> bool:
        """See `Sampled.measured`."""
        return self.beta > 0

    def rules(self, sampler: "Sampler", reference: Any, tokenizer: Any) -> "Rules":
        """Leave one out; the divergence in the reward."""
        from runner.rollouts.updates import Rules

        return Rules(
            estimator="leave_one_out", mask_truncated=self.mask_truncated_completions, penalty=self.beta,
            old=self.beta > 0 or not sampler.exact or self.updates_per_rollout * self.num_iterations > 1,
            reference=reference, max_idle=self.max_idle,
        )  # fmt: skip
