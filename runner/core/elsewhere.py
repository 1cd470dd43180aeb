"""What ms-swift, LLaMA-Factory, Axolotl and TRL call a key, told to people who write it here from habit."""

from collections.abc import Collection

_ROWS = (
    "batch.rows is what an update learns from over all devices (rows a device x accumulation x devices elsewhere), "
    "and micro-batches are found."
)
_PACKS = "batch.packs=16 is it here: an update of 16 sequences of max_length, packed full."
_FOUND = "No key is needed: it is used where it is installed."
_RESUMES = "No key is needed: the same command goes on where it stopped."
_KIND = "The kind of a stage says it here, stages.train.kind=grpo, and a recipe such as +recipe=qwen3_grpo."

# A key of ours, or a sentence where a key is not all.
NAMES: dict[str, str] = {
    "learning_rate": "optim.lr",
    "lr_scheduler_type": "optim.schedule",
    "lr_scheduler": "optim.schedule",
    "warmup_ratio": "optim.warmup",
    "warmup_steps": "optim.warmup",
    "optimizer": "optim.name",
    "adam_beta1": "optim.betas",
    "adam_beta2": "optim.betas",
    "gradient_clipping": "optim.max_grad_norm",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "max_steps": "max_updates",
    "train_iters": "max_updates",
    "per_device_train_batch_size": _ROWS,
    "micro_batch_size": _ROWS,
    "gradient_accumulation_steps": _ROWS,
    "global_batch_size": "batch.rows",
    "per_device_eval_batch_size": "eval.batch_tokens",
    "packing": _PACKS,
    "sample_packing": _PACKS,
    "cutoff_len": "max_length",
    "sequence_len": "max_length",
    "max_seq_length": "max_length",
    "max_model_len": "backend.engine.max_model_len",
    "vllm_max_model_len": "backend.engine.max_model_len",
    "truncation_strategy": "overlong",
    "finetuning_type": "train_type",
    "tuner_type": "train_type",
    "adapter_type": "train_type",
    "lora_rank": "train_type.lora.rank",
    "lora_r": "train_type.lora.rank",
    "lora_alpha": "train_type.lora.alpha",
    "lora_dropout": "train_type.lora.dropout",
    "target_modules": "train_type.lora.targets",
    "lora_target": "train_type.lora.targets",
    "lora_target_modules": "train_type.lora.targets",
    "use_dora": "train_type.lora.dora",
    "use_rslora": "train_type.lora.rslora",
    "quant_bits": "train_type=qlora is it here.",
    "quantization_bit": "train_type=qlora is it here.",
    "load_in_4bit": "train_type=qlora is it here.",
    "dataset": "mix.datasets",
    "datasets": "mix.datasets",
    "val_dataset": "mix.validation.datasets, or stages.infer.prompts where answers are asked for.",
    "split_dataset_ratio": "mix.validation.fraction",
    "val_size": "mix.validation.fraction",
    "val_set_size": "mix.validation.fraction",
    "model_name": "mix.variables.NAME, which fills {{NAME}} (which model: model.id).",
    "model_author": "mix.variables.AUTHOR, which fills {{AUTHOR}}.",
    "model_name_or_path": "model.id",
    "base_model": "model.id",
    "model_id_or_path": "model.id",
    "adapters": "model=FOLDER takes an adapter's folder and finds its base.",
    "adapter_name_or_path": "model=FOLDER takes an adapter's folder and finds its base.",
    "torch_dtype": "model.dtype",
    "bf16": "model.dtype=bfloat16 is it here.",
    "fp16": "model.dtype=float16 is it here.",
    "attn_impl": "model.attention",
    "attn_implementation": "model.attention",
    "flash_attn": "model.attention",
    "use_liger_kernel": _FOUND,
    "enable_liger_kernel": _FOUND,
    "gradient_checkpointing": "batch.checkpointing",
    "torch_compile": "model.compile",
    "deepspeed": "parallelism=zero3 is it here (zero1, zero2, zero3_offload).",
    "fsdp": "parallelism=fsdp2 is it here.",
    "nproc_per_node": "parallelism.gpus",
    "nnodes": "parallelism.nodes",
    "tensor_parallel_size": "backend.engine.tensor_parallel_size",
    "vllm_tensor_parallel_size": "backend.engine.tensor_parallel_size",
    "gpu_memory_utilization": "backend.engine.gpu_memory_utilization",
    "vllm_gpu_memory_utilization": "backend.engine.gpu_memory_utilization",
    "infer_backend": "backend",
    "use_vllm": "backend=vllm is it here.",
    "stream": "+recipe=chat always streams.",
    "eval_steps": "eval.every",
    "eval_interval": "eval.every",
    "save_steps": "save.every",
    "save_interval": "save.every",
    "save_total_limit": "save.keep",
    "save_only_model": "save.weights_only",
    "logging_steps": "log.every",
    "report_to": "log.trackers",
    "dataloader_num_workers": "data.workers",
    "dataset_num_proc": "data.processes",
    "preprocessing_num_workers": "data.processes",
    "resume_from_checkpoint": _RESUMES,
    "overwrite_output_dir": "on_change=replace is it here.",
    "use_hf": "hub=huggingface is it here.",
    "push_to_hub": "+recipe=push is it here.",
    "hub_model_id": "stages.push.repo",
    "hub_token": "The environment says it (HF_TOKEN, MODELSCOPE_API_TOKEN), and no config.",
    "merge_lora": '+recipe=merge is it here, or a stage: {kind: merge, model: "stage:train"}.',
    "enable_thinking": "template.thinking",
    "rlhf_type": _KIND,
    "reward_funcs": "reward=[NAME] is it here.",
    "reward_weights": "reward.NAME.weight",
    "max_completion_length": "sampling.max_new_tokens",
    "max_tokens": "sampling.max_new_tokens",
    "num_generations": "stages.train.num_generations",
    "sleep_level": "stages.train.sleep_level",
    "offload_model": "stages.train.offload_model",
    "offload_optimizer": "stages.train.offload_optimizer",
    "overlong_filter": "stages.train.mask_truncated_completions",
    "log_completions": "No key is needed: completions.jsonl has every answer.",
    "write_batch_size": "stages.infer.write_batch_size",
    "result_path": "stages.infer.result_path",
}


def told(word: str, known: Collection[str], prefix: str = "") -> str:
    """What is said here instead of a key of another tool's, or nothing.

    Args:
        word: a key, or the last word of one.
        known: the dotted keys below `prefix`, such as those of a stage.
    """
    here = NAMES.get(word.rsplit(".", 1)[-1].lower().replace("-", "_"), "")
    if not here or here.endswith("."):
        return here
    if prefix:
        return f"It is {prefix}.{here} here." if here in known else ""
    return f"It is {here} here."
