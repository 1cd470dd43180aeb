"""Makes one model of an adapter and its base: weights, tokenizer, chat template and generation config in a folder.

The base is read unquantized, as it was published. What was written is read back and must answer as the adapter did
beside its base, or the stage fails. Refuses a whole model, which has nothing to merge.
"""

import dataclasses
import gc
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from runner.core.artifact import Artifact
from runner.core.errors import ConfigError, ModelError, StageError
from runner.core.job import Job
from runner.core.places import expanded
from runner.core.schema import component
from runner.core.specs import Model

SIZE = re.compile(r"[1-9]\d*(\.\d+)?[KMG]i?B")


@component
class Merge:
    """One model of an adapter and its base. model: a run, stage, checkpoint or folder with an adapter.

    The result has the type of the base's own weights, unless model.dtype says another. max_shard_size: of a file of
    weights, as 5GB; larger models lie in several.
    """

    model: Model
    max_shard_size: str = "50GB"
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("adapter",)}
    reuse: ClassVar[str] = "always"
    interactive: ClassVar[bool] = False

    def produces(self) -> str:
        """A model."""
        return "model"

    def check(self, roots: Sequence[Path], key: str) -> None:
        """Refuse what is plainly not there, and a folder with a whole model."""
        from runner.models.locate import CONFIG, check, is_adapter

        if not SIZE.fullmatch(self.max_shard_size):
            raise ConfigError(
                f"{key}.max_shard_size", f"{self.max_shard_size!r} is no size", "For example 5GB, or 500MB."
            )
        check(self.model, f"{key}.model")
        folder = expanded(self.model.id)
        if self.model.adapter is None and (folder / CONFIG).is_file() and not is_adapter(folder):
            raise ConfigError(
                f"{key}.model.id", f"{self.model.id} is a whole model: nothing to merge", "Use it as it is."
            )

    def run(self, job: Job) -> Artifact:
        """Merge, write, read back, compare."""
        from runner.stages._at_once import at_once

        with at_once(job, "merging"):
            return self._merged(job)

    def _merged(self, job: Job) -> Artifact:
        from runner.models.adapter import merged
        from runner.models.agreement import Agreement, answers
        from runner.models.load import load_model, load_tokenizer
        from runner.models.locate import Located, locate
        from runner.training.write_model import write_model

        located = locate(self.model, job.hub)
        if located.adapter is None:
            raise ModelError(f"{located.base}: is a whole model: nothing to merge. Use it as it is.")
        dtype = _stored_dtype(located.base) if self.model.dtype == "auto" else self.model.dtype
        model = dataclasses.replace(
            self.model,
            attention="sdpa" if self.model.attention == "auto" else self.model.attention,
            dtype=_computed(self.model.dtype, dtype),
        )
        tokenizer = load_tokenizer(located, chat=False)
        print(f"merging {located.adapter} into {located.name or located.base}, {dtype}", flush=True)
        loaded: Any = load_model(located, model)
        expected = answers(loaded, tokenizer)
        with loaded.disable_adapter():
            plain = answers(loaded, tokenizer, like=expected)
        folder = write_model(merged(loaded), tokenizer, job.folder, dtype, shard=self.max_shard_size)
        del loaded
        gc.collect()
        read = answers(load_model(Located(folder, None, str(folder)), model), tokenizer, like=expected)
        agreement = Agreement.between(expected, read, plain)
        print(agreement, flush=True)
        if not agreement.good(dtype):
            shutil.rmtree(folder)
            raise StageError(
                f"{job.name}: the merged model does not answer as the adapter did: {agreement}. Nothing is kept."
            )
        return Artifact("model", str(folder), metrics=dataclasses.asdict(agreement))


def _computed(asked: str, written: str) -> Any:
    """The type in which weights are added: on a GPU, where auto would be bfloat16, no coarser than they are written."""
    import torch

    return written if torch.cuda.is_available() else asked


def _stored_dtype(folder: Path) -> str:
    """The type of a model's weights by its config; float32 where that says none."""
    from runner.models.facts import facts

    config = facts(folder / "config.json")
    told = config.get("dtype") or config.get("torch_dtype") or (config.get("text_config") or {}).get("dtype")
    return str(told or "float32").removeprefix("torch.")
