"""Reinforcement learning with a critic: PPO, on rewards at the end of answers and the divergence on the way."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Interval

from runner.core.errors import ConfigError
from runner.core.schema import component
from runner.core.specs import Count
from runner.stages._sampled import Sampled

if TYPE_CHECKING:
    from runner.rollouts.sampler import Sampler
    from runner.rollouts.updates import Rules
    from runner.training.algorithm import Algorithm


@component
class Ppo(Sampled):
    """PPO, counted in prompts, with a value head on the model's own body. The reward `reward_model` asks such a model.

    kl_coef, cliprange, cliprange_value, vf_coef, gamma, lam, whiten_rewards: see algorithms/ppo.py and rollouts/gae.py;
    names and defaults as TRL's PPOConfig had them; num_iterations is its num_ppo_epochs.
    """

    num_generations: Count = 1
    num_iterations: Count = 4
    kl_coef: Annotated[float, Ge(0)] = 0.05
    cliprange: Annotated[float, Interval(gt=0.0, lt=1.0)] = 0.2
    cliprange_value: Annotated[float, Gt(0)] = 0.2
    vf_coef: Annotated[float, Ge(0)] = 0.1
    gamma: Annotated[float, Interval(gt=0.0, le=1.0)] = 1.0
    lam: Annotated[float, Interval(ge=0.0, le=1.0)] = 0.95
    whiten_rewards: bool = False
    groups: ClassVar[bool] = False

    def check(self, roots: Sequence[Path], key: str) -> None:
        """See `Sampled.check`; a value head learns with all weights, on devices that hold them whole."""
        from runner.engines.presets import WHOLE

        super().check(roots, key)
        if self.train_type.kind != "full":
            raise ConfigError(
                f"{key}.train_type.kind", f"{self.train_type.kind}, and the value head of ppo learns with all weights",
                "Take train_type=full, or grpo or rloo, which need no value head.",
            )  # fmt: skip
        if self.parallelism.preset not in WHOLE:
            raise ConfigError(
                f"{key}.parallelism.preset", f"{self.parallelism.preset} splits the value head", "Take ddp."
            )

    def prepare(self, model: Any) -> Any:
        """Give the model its value head."""
        from runner.models.critic import Critic

        return Critic(model)

    def algorithm(self, tokenizer: Any, hub: str, prepared: Any) -> "Algorithm":
        """See algorithms/ppo.py."""
        from runner.algorithms.ppo import Ppo as Loss

        return Loss(
            critic=prepared, cliprange=self.cliprange, cliprange_value=self.cliprange_value, vf_coef=self.vf_coef,
            temperature=self.sampling.temperature or 1.0,
        )  # fmt: skip

    @property
    def measured(self) -> bool:
        """See `Sampled.measured`."""
        return self.kl_coef > 0

    def rules(self, sampler: "Sampler", reference: Any, tokenizer: Any) -> "Rules":
        """Gains of each token."""
        from runner.rollouts.gae import Gae
        from runner.rollouts.updates import Rules

        gae = Gae(self.gamma, self.lam, self.kl_coef, self.whiten_rewards)
        return Rules(gae=gae, old=True, reference=reference, max_idle=self.max_idle)

    def finished(self, prepared: Any, model: Any, tokenizer: Any, folder: Path, dtype: str | None) -> Path:
        """The model again, without the value head."""
        from runner.stages._device import first
        from runner.training.write_model import write_model

        prepared.detach()
        return write_model(model, tokenizer, folder.parent, dtype) if first() else folder
