"""Reinforcement learning on answers that the model samples itself, scored by rewards: GRPO and its kin."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from runner.algorithms._grpo_keys import GrpoKeys
from runner.core.errors import ConfigError
from runner.core.schema import component
from runner.core.specs import Count
from runner.stages._sampled import Sampled

if TYPE_CHECKING:
    from runner.rollouts.sampler import Sampler
    from runner.rollouts.updates import Rules
    from runner.training.algorithm import Algorithm


@component
class Grpo(Sampled, GrpoKeys):
    """GRPO, Dr. GRPO, DAPO and GSPO, counted in prompts. The loss's keys: see algorithms/_grpo_keys.py.

    scale_rewards: what an advantage is divided by: the spread of its group, of the rollout, or nothing.
    mask_truncated_completions: answers that were cut off carry no loss; truncated_in_mean: yet count in its mean.
    dynamic_sample: prompts are drawn on, at most max_resample_times, until all groups tell better from worse.
    correction: for an engine whose probabilities are not quite the model's; auto: sequence_mask for vLLM.
    """

    scale_rewards: Literal["group", "batch", "none"] = "group"
    mask_truncated_completions: bool = False
    truncated_in_mean: bool = True
    dynamic_sample: bool = False
    max_resample_times: Count = 3
    correction: Literal["auto", "none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = "auto"

    def check(self, roots: Sequence[Path], key: str) -> None:
        """See `Sampled.check`; bounds of the ratio that leave nothing."""
        super().check(roots, key)
        if self.epsilon >= 1:
            raise ConfigError(f"{key}.epsilon", f"{self.epsilon:g} does not bound a ratio from below", "Take 0.2.")
        low, high = self.correction_min or 0.0, self.correction_max
        if high is not None and low >= high:
            raise ConfigError(
                f"{key}.correction_min", f"{low:g} leaves nothing below correction_max, {high:g}", "Take null, or 0.3."
            )
        if self.beta and self.train_type.kind not in ("lora", "qlora") and self.model.adapter:
            raise ConfigError(f"{key}.beta", "a reference for full weights cannot be an adapter", "Merge it first.")

    def algorithm(self, tokenizer: Any, hub: str, prepared: Any) -> "Algorithm":
        """See algorithms/grpo.py."""
        from runner.algorithms.grpo import Grpo as Loss

        keys: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(GrpoKeys)}
        return Loss(
            **keys, max_completion_length=self.sampling.max_new_tokens, temperature=self.sampling.temperature or 1.0,
            correction="sequence_mask" if self.correction == "auto" else self.correction,
        )  # fmt: skip

    @property
    def measured(self) -> bool:
        """See `Sampled.measured`."""
        return self.beta > 0

    def rules(self, sampler: "Sampler", reference: Any, tokenizer: Any) -> "Rules":
        """Advantages, masks, correction, reference."""
        from runner.rollouts.updates import Rules

        automatic: Any = "none" if sampler.exact else "sequence_mask"
        return Rules(
            scale_rewards=self.scale_rewards, mask_truncated=self.mask_truncated_completions,
            truncated_count=self.truncated_in_mean, resample=self.max_resample_times if self.dynamic_sample else 0,
            old=self.updates_per_rollout * self.num_iterations > 1,
            correction=automatic if self.correction == "auto" else self.correction,
            correction_max=self.correction_max, correction_min=self.correction_min,
            reference=reference, max_idle=self.max_idle,
        )  # fmt: skip
