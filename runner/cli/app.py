"""Runs a recipe through Hydra: single runs, sweeps, `--cfg`, `--info`, completion and reruns, as Hydra users know them.

A single run is composed and planned before Hydra makes its folder, so that a mistake overwrites nothing.
"""

import contextlib
import logging
import os
import sys
import warnings
from argparse import Namespace
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import _run_hydra, create_config_search_path, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from runner import __version__, execute, plan
from runner.cli import sweep
from runner.cli.compose import Composer, resolved
from runner.core.errors import ConfigError

SHOWN = ("cfg", "info", "hydra_help", "shell_completion")


def run(composer: Composer) -> int:
    """Do what the flags ask for; return the exit code."""
    parser = get_args_parser()
    if "--version" in composer.flags:
        print(f"recipe-runner {__version__}")  # and Hydra's own, which argparse tells and leaves
    arguments = parser.parse_args([*composer.flags, *composer.overrides])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and the sentence is ours
    if arguments.experimental_rerun:
        return _rerun(arguments.experimental_rerun, composer)
    try:
        if any(getattr(arguments, name) for name in SHOWN):
            return _show(arguments, composer)
        hydra = started(arguments.config_path)
        multirun = arguments.multirun or swept(hydra, composer)
        return sweep.run(hydra, composer) if multirun else _single(hydra, composer)
    finally:
        GlobalHydra.instance().clear()


def started(config_path: str | None) -> Hydra:
    """Hydra's own object over our search roots."""
    GlobalHydra.instance().clear()
    return Hydra.create_main_hydra2("runner", create_config_search_path(config_path))


def swept(hydra: Hydra, composer: Composer) -> bool:
    """Whether the recipe itself asks for a sweep (hydra.mode=MULTIRUN)."""
    return bool(hydra.get_mode(composer.config_name, list(composer.overrides)) == RunMode.MULTIRUN)


def _show(arguments: Namespace, composer: Composer) -> int:
    logging.raiseExceptions = False  # a reader that closed the pipe early is no error
    if sys.argv[0].endswith("__main__.py"):
        sys.argv[0] = "runner"  # the name that completion is installed for
    try:
        _run_hydra(arguments, get_args_parser(), lambda config: None, arguments.config_path, composer.config_name)
    except SystemExit as error:
        return int(error.code or 0)
    except ValueError:
        if not arguments.shell_completion:
            raise
        said = " ".join(composer.overrides) or "nothing"
        raise ConfigError(
            "-sc", f"cannot do {said!r}", "Write -sc install=bash, install=zsh or install=fish."
        ) from None
    return 0


def _single(hydra: Hydra, composer: Composer) -> int:
    config = composer.compose()
    config.hydra.mode = RunMode.RUN
    values = resolved(config)
    made = plan.make(values, composer.places, Path(_run_dir(config) or str(values.get("output_dir"))))
    plan.refuse_changes(made)
    config.hydra.run.dir = str(made.run)
    callbacks = Callbacks(config)
    callbacks.on_run_start(config=config, config_name=composer.config_name)
    result = run_job(
        hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=callbacks),
        task_function=lambda _: _work(made, config.hydra.runtime.cwd),
        config=config,
        job_dir_key="hydra.run.dir",
        job_subdir_key=None,
    )
    callbacks.on_run_end(config=config, config_name=composer.config_name, job_return=result)
    if result.status == JobStatus.FAILED:
        raise result._return_value  # `return_value` would print a line of its own first
    return 0


def _run_dir(config: DictConfig) -> str | None:
    """hydra.run.dir, unless it is Hydra's own default with the time in it (another primary config than ours)."""
    written = config.hydra.run._get_node("dir")._value()
    return None if "${now:" in str(written) else str(config.hydra.run.dir)


def _work(made: plan.Plan, cwd: str) -> float | None:
    with contextlib.chdir(cwd):  # relative paths keep their meaning under hydra.job.chdir
        return sweep.objective(made.recipe.objective, execute.execute(made))


def _rerun(file: str, composer: Composer) -> int:
    """Run a pickled job again in its own folder, as Hydra's `--experimental-rerun` does."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.main import _get_rerun_conf

    if not Path(file).is_file():
        raise ConfigError("--experimental-rerun", f"no file {file!r}", "Give .hydra/config.pickle of a run.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = _get_rerun_conf(file, [])
    folder = Path(HydraConfig.get().runtime.output_dir)
    execute.execute(plan.make(resolved(config), composer.places, folder))
    return 0
