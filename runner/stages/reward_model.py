"""Reward model: a model learns from pairs to give answers a number; the reward `reward_model` asks it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from runner.algorithms.reward_model import RewardModel as Loss
from runner.core.errors import ConfigError, ModelError
from runner.core.job import Job
from runner.core.schema import component
from runner.core.specs import Model
from runner.stages._device import first
from runner.stages._preference import Preference, own_keys

if TYPE_CHECKING:
    from runner.data.prepare import Encodings
    from runner.data.updates import UpdatePlan
    from runner.models.locate import Located
    from runner.stages._known import Known
    from runner.training.algorithm import Algorithm


@component
class RewardModel(Preference, Loss):
    """Learning a number for answers from pairs. It is read at the end of the answer, and written as a whole model."""

    rates: ClassVar[tuple[float, float]] = (1e-4, 1e-5)

    def algorithm(self) -> "Algorithm":
        """Bradley and Terry's with this stage's keys."""
        return own_keys(Loss, self)

    def produces(self) -> str:
        """A model for sequence classification with one label: no language model that could answer."""
        return "reward_model"

    def check(self, roots: Sequence[Path], key: str) -> None:
        """Refuse what would split the weights over devices or hold them in 4 bits."""
        from runner.engines.presets import WHOLE

        super().check(roots, key)
        if self.train_type.kind == "qlora":
            raise ConfigError(f"{key}.train_type.kind", "a reward model is written whole, and qlora has 4-bit weights")
        if self.parallelism.preset not in WHOLE:
            fix = "Take single or ddp."
            raise ConfigError(f"{key}.parallelism.preset", f"{self.parallelism.preset} splits a reward model", fix)

    def _known(self, plan: "UpdatePlan", train: "Encodings", kept: "Encodings", job: Job) -> "Known":
        """Each sequence up to where its number is read."""
        from runner.data.prepare import Encodings
        from runner.data.scored import Scored
        from runner.stages._known import Known

        learned, aside = (Encodings(Scored(part.sequences), part.rows) for part in (train, kept))
        return Known(plan, learned, aside)

    def _learner(self, located: "Located", model: Model) -> Any:
        """The model with a head for one number, which learns whole beside adapters."""
        from runner.models._value_head import with_value_head
        from runner.models.dropout import without_dropout
        from runner.models.load import load_model
        from runner.models.tune import tune

        loaded = load_model(located, model, self.train_type)
        if hasattr(loaded, "peft_config"):  # the head could not be written beside it
            raise ModelError(
                f"model.id: {located.adapter} is an adapter, and a reward model has another head. Merge it."
            )
        made, head = with_value_head(loaded)
        lora = dataclasses.replace(self.train_type.lora, modules_to_save=[*self.train_type.lora.modules_to_save, head])
        patterns = [*self.train_type.patterns, rf"^{head}\."] if self.train_type.patterns else []
        made = tune(made, dataclasses.replace(self.train_type, lora=lora, patterns=patterns))
        return without_dropout(made) if self.disable_dropout else made

    def _finished(self, learner: Any, tokenizer: Any, folder: Path, dtype: str | None) -> Path:
        """Written as transformers knows a reward model, adapters merged."""
        import torch

        from runner.models._value_head import classifier
        from runner.training.write_model import write_model

        if not first():
            return folder
        whole = learner.merge_and_unload() if hasattr(learner, "peft_config") else learner
        made = classifier(whole, tokenizer.pad_token_id, getattr(torch, dtype) if dtype else None)
        return write_model(made, tokenizer, folder.parent)
