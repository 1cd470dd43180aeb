"""Runs a recipe through Hydra: single runs, sweeps, `--cfg`, `--info`, completion and reruns, as Hydra users know them.

A single run is composed and planned before Hydra makes its folder, so that a mistake overwrites nothing.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import _run_hydra, create_config_search_path, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from runner import execute, plan
from runner.cli.compose import Composer, resolved, told
from runner.cli.origins import origin_of, origins
from runner.core.errors import ConfigError, RunnerError


def run(composer: Composer) -> int:
    """Do what the flags ask for; return the exit code."""
    parser = get_args_parser()
    arguments = parser.parse_args([*composer.flags, *composer.overrides])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and the sentence is ours
    asked = arguments.cfg or arguments.info or arguments.hydra_help or arguments.shell_completion
    if arguments.experimental_rerun:
        return _rerun(arguments.experimental_rerun)
    if asked:
        _run_hydra(arguments, parser, lambda config: None, arguments.config_path, composer.config_name)
        return 0
    hydra = Hydra.create_main_hydra2("runner", create_config_search_path(arguments.config_path))
    try:
        multirun = arguments.multirun or hydra.get_mode(composer.config_name, list(composer.overrides)) == RunMode.MULTIRUN
        return _sweep(hydra, composer) if multirun else _single(hydra, composer)
    finally:
        GlobalHydra.instance().clear()


def _single(hydra: Hydra, composer: Composer) -> int:
    config = composer.compose()
    config.hydra.mode = RunMode.RUN
    made = planned(composer, resolved(config), Path(config.hydra.run.dir))
    plan.refuse_changes(made)
    config.hydra.run.dir = str(made.run)
    callbacks = Callbacks(config)
    callbacks.on_run_start(config=config, config_name=composer.config_name)
    result = run_job(
        hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=callbacks),
        task_function=lambda _: execute.execute(made),
        config=config,
        job_dir_key="hydra.run.dir",
        job_subdir_key=None,
    )
    callbacks.on_run_end(config=config, config_name=composer.config_name, job_return=result)
    return _code(result)


def _code(result: JobReturn) -> int:
    if result.status == JobStatus.FAILED:
        raise result._return_value  # `return_value` would print a line of its own first
    return 0


def _sweep(hydra: Hydra, composer: Composer) -> int:
    overrides = [*composer.overrides, "hydra.mode=MULTIRUN"]
    results = hydra.multirun(composer.config_name, task, overrides)
    failed = [result for batch in results or [] for result in batch if result.status.name != "COMPLETED"]
    return 1 if failed else 0


def task(config: DictConfig) -> Any:
    """One job of a sweep."""
    values = resolved(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    from runner.core.places import roots

    return [done.state for done in execute.execute(plan.make(values, roots(), folder))]


def planned(composer: Composer, values: dict[str, Any], run: Path | None = None) -> plan.Plan:
    """Plan a composed config; a mistake is told with the file and line, or the override, that made it.

    Raises:
        RunnerError: see `plan.make`.
    """
    try:
        return plan.make(values, composer.places, run)
    except ConfigError as error:
        origin = origin_of(origins(composer), error.key) if error.key else ""
        raise RunnerError(error.sentence(origin)) from error


def _rerun(file: str) -> int:
    from hydra.main import _get_rerun_conf

    execute.execute(plan.make(resolved(_get_rerun_conf(file, [])), _places()))
    return 0


def _places() -> Sequence[Path]:
    from runner.core.places import roots

    return roots()


__all__ = ["planned", "run", "task", "told"]
