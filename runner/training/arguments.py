"""TrainingArguments from our own keys. Trainer's rhythms, filters and data loading are off: others decide them here."""

import os
from typing import TYPE_CHECKING

from runner.core.job import Job
from runner.engines import presets
from runner.training import needed
from runner.training.settings import Settings

if TYPE_CHECKING:
    from transformers import TrainingArguments

OPTIMIZERS = {"adamw": "adamw_torch", "adamw_8bit": "adamw_bnb_8bit", "adafactor": "adafactor", "sgd": "sgd"}


def arguments(settings: Settings, job: Job, updates: int, keep_cache: bool) -> "TrainingArguments":
    """The arguments of a training of so many updates.

    Args:
        keep_cache: what the model's config says of `use_cache`, which Trainer would write over.

    Raises:
        ConfigError: see `needed.check`.
    """
    from transformers import TrainingArguments

    optim = settings.optim
    needed.check(optim, settings.log)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(job.folder / "tensorboard")
    gpu = _gpu()
    over_devices = {"bf16": settings.autocast} | presets.keywords(
        settings.parallelism, gpu, optim.max_grad_norm, bf16=settings.autocast
    )
    made = TrainingArguments(
        output_dir=str(job.folder), run_name=f"{job.run.name}/{job.name}", seed=job.seed,
        num_train_epochs=1, max_steps=updates, per_device_train_batch_size=1, gradient_accumulation_steps=1,
        optim=_optimizer(optim.name), learning_rate=settings.lr, weight_decay=optim.weight_decay,
        adam_beta1=optim.betas[0], adam_beta2=optim.betas[1], max_grad_norm=optim.max_grad_norm,
        use_cpu=not gpu, use_cache=keep_cache,
        logging_strategy="no", eval_strategy="no", save_strategy="no", save_only_model=settings.save.weights_only,
        logging_nan_inf_filter=False, disable_tqdm=True, log_level="error",
        report_to=list(settings.log.trackers) or "none", remove_unused_columns=False,
        ddp_find_unused_parameters=False, ddp_broadcast_buffers=False, **over_devices,
    )  # fmt: skip
    if made.n_gpu > 1:  # Trainer would spread the model over all GPUs of the host by nn.DataParallel
        made._n_gpu = 1
    return made


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _optimizer(name: str) -> str:
    return "adamw_torch_fused" if name == "adamw" and _gpu() else OPTIMIZERS[name]
