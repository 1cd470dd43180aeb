"""The verbs that need a composed config: run, plan, explain and their kin. A mistake is told in one sentence."""

import os
from collections.abc import Callable, Sequence
from functools import partial

from runner.cli import argv
from runner.cli.compose import Composer, composer
from runner.cli.mistakes import told
from runner.core.errors import ConfigError

PLACE_FLAGS = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")
TAKES = {"plan": ("--multirun", "-m")}  # flags of a verb besides PLACE_FLAGS


def composed(verb: str, words: Sequence[str]) -> int:
    """Do a verb on a command line; return the exit code.

    Raises:
        RunnerError: the user's mistake.
    """
    do, rest = _verb(verb, words)
    made = composer(rest)
    _refuse_flags(verb, made.flags)
    try:
        return do(made)
    except Exception as error:
        sentence = told(error, made)
        if sentence is error or os.environ.get("RUNNER_DEBUG"):
            raise
        raise sentence from error


def _verb(verb: str, words: Sequence[str]) -> tuple[Callable[[Composer], int], list[str]]:
    """What a verb does, and the command line without the words that are the verb's own."""
    if verb == "inspect":
        from runner.cli.inspect import choice, inspect

        chosen, others = choice(words)
        names, rest = argv.bare_words(others)
        return partial(inspect, chosen=chosen, names=names), rest
    if verb == "reward":
        from runner.cli.reward import flags, reward

        output, others = flags(words)
        names, rest = argv.bare_words(others)
        return partial(reward, output=output, names=names), ["name=reward", *rest]  # no recipe is needed
    if verb == "explain":
        keys, rest = argv.bare_words(words)
        return partial(explain, keys=keys), rest
    return (plan if verb == "plan" else run), list(words)


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


def explain(made: Composer, keys: Sequence[str]) -> int:
    """Each value, and who set it."""
    from runner.cli.explain import explained, show

    show(explained(made, keys))
    return 0
