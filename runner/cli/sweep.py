"""A sweep: every job is composed and planned before the first one starts; each has a fixed folder, so the same command
goes on where it stopped; a job that fails writes error.txt, and the others go on unless `on_failure=stop`.

`Grid` stands in for Hydra's basic sweeper; other sweepers and all launchers work too, because the work is `job`, an
ordinary Hydra task whose return value is the recipe's `objective`.
"""

import contextlib
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from rich.text import Text

from runner import execute, plan
from runner.cli.compose import Composer, resolved
from runner.cli.mistakes import told
from runner.cli.sweep_table import show
from runner.cli.yaml_lines import shown
from runner.core.artifact import write_whole
from runner.core.errors import Interrupted, RunnerError, StageError
from runner.terminal import Lasting, screen

ERROR_FILE = "error.txt"
BASIC = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"
STOP_FILE = ".failed"  # in the sweep's folder: a job failed, and on_failure=stop


class Grid(BasicSweeper):
    """The Cartesian product; a job that failed stops no later batch."""

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Run all jobs; failures are in their returns."""
        assert self.config is not None and self.launcher is not None and self.hydra_context is not None
        words = [*(f"{key}={value}" for key, value in (self.params or {}).items()), *arguments]
        parsed = OverridesParser.create(self.hydra_context.config_loader).parse_overrides(words)
        batches = self.split_arguments(parsed, self.max_batch_size)
        sweep_dir = Path(self.config.hydra.sweep.dir)
        sweep_dir.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, sweep_dir / "multirun.yaml")
        ended: list[JobReturn] = []
        for batch in batches:
            ended.extend(self.launcher.launch(batch, initial_job_idx=len(ended)))
        return ended


@dataclass(frozen=True)
class Planned:
    """One job of a sweep before it runs."""

    overrides: tuple[str, ...]
    plan: plan.Plan


def jobs(hydra: Hydra, composer: Composer) -> list[Planned]:
    """All jobs of the command line, each composed and planned; empty for sweepers that choose as they go.

    Raises:
        RunnerError: a mistake in any of them.
    """
    master = _master(hydra, composer)
    if master.hydra.sweeper._target_ != BASIC:
        return []
    words = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
    parsed = OverridesParser.create(hydra.config_loader).parse_overrides([*words, *_words(master.hydra.overrides.task)])
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    return [_planned(hydra, composer, master, number, tuple(choices)) for number, choices in enumerate(batch)]


def _master(hydra: Hydra, composer: Composer) -> DictConfig:
    overrides = [*composer.overrides, "hydra.mode=MULTIRUN"]
    return hydra.config_loader.load_configuration(composer.config_name, overrides, RunMode.MULTIRUN)


def _loader(hydra: Hydra) -> ConfigLoaderImpl:
    assert isinstance(hydra.config_loader, ConfigLoaderImpl)
    return hydra.config_loader


def _words(overrides: Any) -> list[str]:
    """Overrides as written: an interpolation in them belongs to the job's config, not to this one."""
    return [str(word) for word in list(OmegaConf.to_container(overrides, resolve=False) or [])]


def _planned(hydra: Hydra, composer: Composer, master: DictConfig, number: int, choices: tuple[str, ...]) -> Planned:
    own = Composer(composer.flags, (*_words(master.hydra.overrides.hydra), *choices), composer.places, _loader(hydra))
    try:
        config = own.compose()
        config.hydra.job.num = number
        made = plan.make(resolved(config), composer.places, Path(str(master.hydra.sweep.dir)) / _subdir(config))
        plan.refuse_changes(made)
        return Planned(choices, made)
    except RunnerError as error:
        raise told(error, own) from error


def _subdir(config: DictConfig) -> str:
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    try:
        return str(config.hydra.sweep.subdir)
    finally:
        HydraConfig.instance().cfg = before


def run(hydra: Hydra, composer: Composer) -> int:
    """Do the whole sweep; 0 when every job is done, 1 when one failed."""
    planned = jobs(hydra, composer)
    master = _master(hydra, composer)
    configure_log(master.hydra.hydra_logging, master.hydra.verbose)
    (Path(str(master.hydra.sweep.dir)) / STOP_FILE).unlink(missing_ok=True)
    callbacks = Callbacks(master)
    callbacks.on_multirun_start(config=master, config_name=composer.config_name)
    work = {
        "hydra_context": HydraContext(config_loader=hydra.config_loader, callbacks=callbacks),
        "task_function": partial(job, places=[str(place) for place in composer.places]),
        "config": master,
    }
    sweeper = _sweeper(master, work)
    ended = sweeper.sweep(_words(master.hydra.overrides.task)) or []
    callbacks.on_multirun_end(config=master, config_name=composer.config_name)
    returns = [item for item in ended if isinstance(item, JobReturn)]
    show(planned, returns)
    return 1 if any(item.status != JobStatus.COMPLETED for item in returns) else 0


def _sweeper(master: DictConfig, work: dict[str, Any]) -> Any:
    if master.hydra.sweeper._target_ != BASIC:
        return Plugins.instance().instantiate_sweeper(**work)
    grid = Grid(master.hydra.sweeper.max_batch_size, master.hydra.sweeper.params)
    grid.setup(**work)
    return grid


def job(config: DictConfig, places: Sequence[str]) -> float | None:
    """One job: run its plan, return its objective. What goes wrong is written into its folder.

    Raises:
        RunnerError: what failed, for Hydra's account of the sweep. KeyboardInterrupt: the user stopped the sweep.
    """
    settings = HydraConfig.get()
    with contextlib.chdir(settings.runtime.cwd):  # relative paths keep their meaning under hydra.job.chdir
        folder, stop = Path(shown(Path(settings.runtime.output_dir))), Path(str(settings.sweep.dir)) / STOP_FILE
        values = resolved(config)
        if values.get("on_failure") == "stop" and stop.is_file():
            raise StageError(
                f"not started, because {stop.read_text(encoding='utf-8').strip()} failed (on_failure=stop)."
            )
        try:
            made = plan.make(values, [Path(place) for place in places], folder)
            screen(Lasting(sys.stdout)).print(Text(f"\n{folder}", "bold"))  # whose lines these are
            figure = objective(made.recipe.objective, execute.execute(made))
            (folder / ERROR_FILE).unlink(missing_ok=True)
            return figure
        except Interrupted as error:
            raise KeyboardInterrupt from error
        except Exception as error:
            whole = str(error) if isinstance(error, RunnerError) else traceback.format_exc()
            write_whole(folder / ERROR_FILE, whole.rstrip() + "\n")
            write_whole(stop, f"{folder}\n")
            raise


def objective(wanted: str | None, ended: Sequence[execute.Done]) -> float | None:
    """The figure `stage.metric` of a finished run; None when the recipe names none.

    Raises:
        StageError: the stage has no such figure.
    """
    if wanted is None:
        return None
    stage, _, metric = wanted.partition(".")
    done = next(done for done in ended if done.step.name == stage)
    metrics: dict[str, Any] = dict(done.made.metrics) if done.made else {}
    value: Any = metrics.get(metric)
    if value is None:
        value = metrics
        for step in metric.split("."):
            value = value.get(step) if isinstance(value, dict) else None
    if not isinstance(value, int | float):
        known = ", ".join(key for key, figure in metrics.items() if isinstance(figure, int | float)) or "none"
        raise StageError(f"objective: {stage} has no figure {metric!r}. Its figures: {known}.")
    return float(value)
