"""DeepSpeed's ZeRO, Rajbhandari et al. 2020 (arXiv 1910.02054), as a config made here: no file, nothing left to guess.

The trainer accumulates, so DeepSpeed is told of one micro-batch. Devices have equal numbers of micro-batches (fillers
see to it): stage 2 exchanges gradients after each of them, and stage 3 gathers weights in each.
"""

import importlib.util
from typing import Any

from runner.core.errors import ConfigError

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3, "zero3_offload": 3}


def need(preset: str) -> None:
    """Refuse a preset whose engine is not there.

    Raises:
        ConfigError: DeepSpeed is not installed.
    """
    if importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            "parallelism.preset", f"{preset} needs the package deepspeed", "pip install deepspeed, or take fsdp2."
        )


def config(preset: str, gpu: bool, max_grad_norm: float, bf16: bool) -> dict[str, Any]:
    """DeepSpeed's config. bf16: weights are bfloat16, and the optimizer keeps them in float32."""
    need(preset)
    split: dict[str, Any] = {"stage": STAGES[preset], "overlap_comm": gpu, "contiguous_gradients": True}
    if STAGES[preset] == 3:
        split["stage3_gather_16bit_weights_on_model_save"] = True
    if preset == "zero3_offload":
        split["offload_optimizer"] = split["offload_param"] = {"device": "cpu", "pin_memory": gpu}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": max_grad_norm,
        "zero_optimization": split,
        "bf16": {"enabled": bf16},
        "zero_allow_untested_optimizer": True,  # the trainer brings its own
        "zero_force_ds_cpu_optimizer": False,  # PyTorch's AdamW steps on the CPU too
        "steps_per_print": 2**31,
    }
