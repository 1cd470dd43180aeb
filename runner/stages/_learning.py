"""What every stage shares whose model learns: the keys of a training, and what is refused of them when planning."""

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from runner.core.errors import Interrupted
from runner.core.job import Job
from runner.core.schema import component
from runner.core.specs import (
    Batch,
    Count,
    Data,
    Eval,
    Log,
    Mix,
    Model,
    Optim,
    Parallelism,
    Save,
    Template,
    TrainType,
)  # fmt: skip
from runner.stages._device import first

if TYPE_CHECKING:
    from runner.training.settings import Settings


@component
class Learning:
    """Keys of a training; see core/specs.py for what is in each."""

    model: Model
    mix: Mix
    max_length: Count | None = None
    template: Template = field(default_factory=Template)
    train_type: TrainType = field(default_factory=TrainType)
    batch: Batch = field(default_factory=Batch)
    epochs: Annotated[float, Gt(0)] = 1.0
    max_updates: Count | None = None
    optim: Optim = field(default_factory=Optim)
    eval: Eval = field(default_factory=Eval)
    save: Save = field(default_factory=Save)
    log: Log = field(default_factory=Log)
    data: Data = field(default_factory=Data)
    parallelism: Parallelism = field(default_factory=Parallelism)
    hub: str = "modelscope"
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("model", "adapter"), "mix": ("completions",)}
    reuse: ClassVar[str] = "always"
    interactive: ClassVar[bool] = False
    rates: ClassVar[tuple[float, float]] = (1e-4, 1e-5)  # optim.lr when it is not given: of adapters, of full weights

    @property
    def goes_on(self) -> bool:
        """Whether what a stop leaves behind can be gone on from."""
        return not self.save.weights_only

    def produces(self) -> str:
        """An adapter under lora and qlora, a whole model otherwise."""
        return "adapter" if self.train_type.kind in ("lora", "qlora") else "model"

    def check(self, roots: Sequence[Path], key: str) -> None:
        """Refuse models and data that are not there, and keys that contradict each other."""
        from runner.data.mix import check as check_mix
        from runner.engines.presets import check as check_parallelism
        from runner.models.locate import check as check_model
        from runner.training.precision import check as check_precision
        from runner.training.settings import check as check_optim
        from runner.training.settings import check_pace

        check_model(self.model, f"{key}.model")
        check_precision(self.model, f"{key}.model")
        check_mix(self.mix, roots, self.hub, f"{key}.mix")
        check_optim(self.optim, f"{key}.optim")
        check_parallelism(self.parallelism, self.train_type, f"{key}.parallelism")
        check_pace(self.batch, self.model.compile, self.parallelism.preset, key)

    def _needed(self) -> None:
        """Refuse what cannot run on this machine, before anything is read.

        Raises:
            ConfigError: see `needed.check`. ModelError: `qlora` without a GPU or its package.
        """
        import torch

        from runner.models.load import four_bits
        from runner.training import needed

        needed.check(self.optim, self.log)
        if self.train_type.kind == "qlora":
            four_bits("cuda" if torch.cuda.is_available() else "cpu")

    def _begin(self, job: Job, aside: bool) -> None:
        """Once the data is read. aside: whether some of it is kept aside for evaluation.

        Raises:
            Interrupted: the user asked to stop meanwhile.
        """
        idle = [f"eval.{name}" for name in ("every", "at_start") if getattr(self.eval, name)]
        if first() and idle and not aside:
            told = f"{' and '.join(idle)} {'does' if len(idle) == 1 else 'do'} nothing"
            print(f"nothing is kept aside for evaluation (mix.validation), so {told}", flush=True)
        if job.stopping():
            raise Interrupted(f"{job.name}: stopped before the first update. The same command begins anew.")

    def _settings(self, autocast: bool) -> "Settings":
        from runner.training.settings import Settings

        rate = self.optim.lr or self.rates[self.produces() != "adapter"]
        return Settings(
            rate, self.optim, self.eval, self.save, self.log, self.data, autocast=autocast,
            parallelism=self.parallelism, batch=self._batch(), compile=self.model.compile,
        )  # fmt: skip

    def _batch(self) -> Batch:
        """`batch`, with what the stage knows of memory."""
        return self.batch
