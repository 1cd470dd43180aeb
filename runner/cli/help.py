"""`runner --help`: answered before Hydra is imported, so that it is there at once."""

from collections.abc import Sequence
from pathlib import Path

from runner.cli.list import entries

USAGE = """\
The recipe runner: fine-tune and align language models from short YAML recipes.

  python -m runner +recipe=NAME [key=value ...]      compose, plan, run
  python -m runner -m +recipe=NAME optim.lr=1e-4,1e-5   one run for each value (Hydra multirun)
  python -m runner plan    +recipe=NAME ...          what would run, and why
  python -m runner inspect +recipe=NAME ...          what would be trained on, token by token
  python -m runner explain +recipe=NAME [KEY ...]    each value, and the file or override that set it
  python -m runner list [recipes|models|mixes|rewards|loss_scales|stages|...]
  python -m runner cache [clear]                     encoded data that is kept; remove it
  python -m runner diff RUN RUN                      what differs between two runs
  python -m runner rerun RUN                         go on from a run's folder alone
  python -m runner reward FILE reward=[NAME]         score answers that are there already
  python -m runner answers RUN [--best|--worst ...]  page through the answers of a run
  python -m runner schema                            JSON schema for your editor

Recipes:
"""
MORE = """
Any key can be set on the command line: optim.lr=1e-4 mix.datasets=[my.jsonl#500] model=/my/model train_type=full.
Your own ./recipes, ./conf and ./plugins are found in the working directory (or --config-dir DIR).
Hydra's own help: --hydra-help. The composed config: --cfg job.
"""


def text(places: Sequence[Path]) -> str:
    """The whole page, with a line a recipe."""
    recipes = entries("recipes", places)
    width = max((len(name) for name, _, _ in recipes), default=0)
    return USAGE + "".join(f"  {name:<{width}}  {words}\n" for name, words, _ in recipes) + MORE
