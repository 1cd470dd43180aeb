"""vLLM's engine starts, or one sentence says why not."""

import os
import sys
from typing import Any

from runner.backends._vllm_arguments import QUIET
from runner.core.errors import ConfigError, StageError, first_line
from runner.core.orphans import forks_end_with_this


def begin(keys: dict[str, Any], short: str, beside: bool = False) -> Any:
    """vLLM's LLMEngine.

    Args:
        keys: of its EngineArgs. short: what to do where memory is short.
        beside: beside a training, in its process: weights are handed over in its memory.

    Raises:
        ConfigError: vLLM is not there, or refuses a key. StageError: it could not start.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if beside:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    try:
        from vllm import EngineArgs, LLMEngine
        from vllm.usage.usage_lib import UsageContext
    except ImportError as error:
        fix = "Install the extra: vllm, or take backend=transformers."
        raise ConfigError("backend.name", f"vLLM cannot be imported: {first_line(error)}", fix) from None
    print("vLLM starts its engine: a minute, and some more the first time, when it compiles kernels", file=sys.stderr)
    if not beside and not _may_fork():
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    try:
        # the context decides how much vLLM batches; this one is that of its own offline class
        with forks_end_with_this():
            return LLMEngine.from_engine_args(EngineArgs(**keys), usage_context=UsageContext.LLM_CLASS)
    except (ValueError, TypeError, AssertionError) as error:
        raise ConfigError("backend.engine", f"vLLM refuses it: {first_line(error)}") from None
    except RuntimeError as error:
        where = " beside the training" if beside else ""
        raise StageError(
            f"backend.engine: vLLM could not start{where}: {first_line(error)}. Its own words stand above. "
            f"Where memory is short: {short}."
        ) from None


def _may_fork() -> bool:
    """Whether a child of this process can use the GPU. One cannot once anything here has asked CUDA's driver, be it
    only whether it is there; vLLM itself looks no further than whether torch uses the GPU.
    """
    import torch

    child = os.fork()
    if child == 0:
        os._exit(int(torch.cuda._is_in_bad_fork()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
