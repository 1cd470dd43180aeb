"""The verbs that need a composed config: run, plan, explain and their kin. A mistake is told in one sentence."""

import os
from collections.abc import Callable, Sequence

from runner.cli import argv
from runner.cli.compose import Composer, composer
from runner.cli.mistakes import told
from runner.core.errors import ConfigError

PLACE_FLAGS = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")
TAKES = {"plan": ("--multirun", "-m")}  # flags of a verb besides PLACE_FLAGS
BARE = ("explain",)  # verbs that take words which are no overrides


def composed(verb: str, words: Sequence[str]) -> int:
    """Do a verb on a command line; return the exit code.

    Raises:
        RunnerError: the user's mistake.
    """
    keys, rest = argv.bare_words(words) if verb in BARE else ((), words)
    made = composer(rest)
    _refuse_flags(verb, made.flags)
    try:
        return VERBS[verb](made, *keys)
    except Exception as error:
        sentence = told(error, made)
        if sentence is error or os.environ.get("RUNNER_DEBUG"):
            raise
        raise sentence from error


def _refuse_flags(verb: str, flags: Sequence[str]) -> None:
    if verb == "run":
        return
    for word in (word.split("=")[0] for word in flags if word.startswith("-")):
        if word not in (*PLACE_FLAGS, *TAKES.get(verb, ())):
            raise ConfigError("command line", f"{verb} takes no flag {word}")


def run(made: Composer) -> int:
    """Compose, plan, run."""
    from runner.cli.app import run as run_app

    return run_app(made)


def plan(made: Composer) -> int:
    """The run graph; of a sweep, its jobs."""
    from runner.cli.show_plan import show
    from runner.plan import make

    if "-m" in made.flags or "--multirun" in made.flags:
        from runner.cli import app, sweep, sweep_table

        sweep_table.show(sweep.jobs(app.started(None), made))
        return 0
    show(make(made.values(), made.places))
    return 0


def explain(made: Composer, *keys: str) -> int:
    """Each value, and who set it."""
    from runner.cli.explain import explained, show

    show(explained(made, keys))
    return 0


VERBS: dict[str, Callable[..., int]] = {"run": run, "plan": plan, "explain": explain}
