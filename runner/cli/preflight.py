"""`runner inspect` on a recipe of reinforcement learning: real answers of the model as it starts, scored as later on.

Tells before any update whether there is something to learn: how each reward is spread, how many groups tell better from
worse, how many answers are cut off, what is best and worst. Writes nothing but what `--output` names.
"""

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.core.artifact import write_whole
from runner.core.errors import StageError
from runner.core.specs import Model
from runner.plan import Plan, Step, mix_of

if TYPE_CHECKING:
    from runner.rollouts.answers import Answer, Group, Prompt

PROMPTS = 8  # that are asked when --count is not given
KINDS = 3  # of reasons that are told
WIDTH = 1200  # characters of an answer that are shown


def chosen(plan: Plan, names: Sequence[str]) -> Step | None:
    """The stage that samples answers: the one named, or the first stage that trains if it is one."""
    training = [step for step in plan.steps if hasattr(step.stage, "mix") and hasattr(step.stage, "train_type")]
    wanted = [step for step in training if step.name == names[0]] if names else training[:1]
    return wanted[0] if wanted and hasattr(wanted[0].stage, "prompts_per_update") else None


def preflight(plan: Plan, step: Step, model: Model, count: int | None, output: Path | None) -> int:
    """Ask, score, tell.

    Args:
        count: prompts that are asked.

    Raises:
        RunnerError: what would stop the training before its first update.
    """
    from runner.models.load import load_tokenizer
    from runner.models.locate import locate
    from runner.rollouts.updates import Rules
    from runner.scoring.arguments import columns_of
    from runner.scoring.rewards import Rewards
    from runner.stages._prompts import prompts, room

    stage, recipe = step.stage, plan.recipe
    located = locate(model, recipe.hub)
    held, _ = prompts(
        load_tokenizer(located), mix_of(plan, step), stage.template, limit=stage.max_length,
        room=room(located, stage.sampling.max_new_tokens), seed=recipe.seed, hub=recipe.hub, places=plan.places,
        max_dropped=1.0,
    )  # fmt: skip
    asked = random.Random(recipe.seed).sample(held, min(count or PROMPTS, len(held)))
    print(f"{len(asked)} of {len(held)} prompts x {stage.num_generations} answers of {model.id}", flush=True)
    answered = _given(_answered(stage, model, recipe.hub, asked), asked)
    columns = columns_of(prompt.columns for prompt in held)
    with Rewards(stage.reward, plan.places, max_failed=1.0, columns=columns) as rewards:
        groups = Rules().weigh(_scored(answered, asked, rewards))
        failed = {name: tally.failed for name, tally in rewards.tallies.items()}
    _tell(groups, asked, stage, failed)
    if output is not None:
        from runner.rollouts.store import line

        rows = [line(0, answer, asked[answer.prompt]) for group in groups for answer in group]
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        print(f"{output}: {len(rows)} lines")
    return 0


def _answered(stage: Any, model: Model, hub: str, asked: "Sequence[Prompt]") -> "list[Group]":
    from runner.backends import _completion, start
    from runner.rollouts.answers import Answer
    from runner.rollouts.choose import neutral

    engine = start(stage.backend, model, hub)
    try:
        sampling = dataclasses.replace(neutral(stage.sampling), n=stage.num_generations)
        made = engine.generate([_completion.Prompt(one.ids, one.head, one.prefix, one.text) for one in asked], sampling)
    finally:
        engine.close()
    return [tuple(Answer(place, one.sample, one) for one in answers) for place, answers in enumerate(made)]


def _given(groups: "list[Group]", asked: "Sequence[Prompt]") -> "list[Group]":
    """The answers that were given; of the others is told how many there are, and why, by the first of each kind.

    Raises:
        StageError: there are none.
    """
    lost = [answer for group in groups for answer in group if answer.completion.error]
    kept = [tuple(answer for answer in group if not answer.completion.error) for group in groups]
    first = {answer.completion.error: asked[answer.prompt].id for answer in reversed(lost)}
    why = ". ".join(f"prompt {prompt}: {error}" for error, prompt in list(first.items())[:KINDS])
    if lost and not any(kept):
        raise StageError(f"none of the {len(lost)} answers could be given. {why}.")
    if lost:
        count = sum(map(len, groups))
        print(f"{len(lost)} of {count} answers could not be given, which ends a training. {why}.", flush=True)
    return [group for group in kept if group]


def _scored(groups: "Sequence[Group]", asked: "Sequence[Prompt]", rewards: Any) -> "list[Group]":
    from runner.rollouts.draw import scored

    left = iter(scored([answer for group in groups for answer in group], asked, rewards))
    return [tuple(next(left) for _ in group) for group in groups]


def _tell(groups: "Sequence[Group]", asked: "Sequence[Prompt]", stage: Any, failed: dict[str, int]) -> None:
    from runner.cli.reward import show
    from runner.rollouts import figures

    known = figures.facts(groups)
    answers = [answer for group in groups for answer in group]
    columns = {name: [answer.scores.get(name) for answer in answers] for name in stage.reward}
    if len(columns) > 1 or any(one.weight != 1 for one in stage.reward.values()):
        columns["weighted sum"] = [answer.total for answer in answers]
    if columns:
        show(columns, failed, [answer.prompt for answer in answers])
    if stage.compares and stage.groups:
        print(f"groups     {known.same} of {known.groups} without a spread: nothing is learned from them")
    lengths = sorted(answer.completion.completion_tokens for answer in answers)
    print(
        f"lengths    {lengths[0]} to {lengths[-1]} tokens, half of them up to {lengths[len(lengths) // 2]}; "
        f"{known.truncated} of {len(answers)} cut off at {stage.sampling.max_new_tokens}"
    )
    ordered = sorted((one for one in answers if one.total is not None), key=lambda one: one.total or 0.0)
    for title, one in (("best", ordered[-1:]), ("worst", ordered[:1])) if columns else (("first", answers[:1]),):
        for answer in one:
            _show(title, answer, asked[answer.prompt])


def _show(title: str, answer: "Answer", prompt: "Prompt") -> None:
    from runner.rollouts.draw import words

    scores = "  ".join(f"{name} {'none' if value is None else f'{value:g}'}" for name, value in answer.scores.items())
    text = answer.completion.text
    cut = f" … ({len(text)} characters)" if len(text) > WIDTH else ""
    told = "   ".join(filter(None, [scores, prompt.id]))
    print(f"\n{title}: {told}\n>>> {words(prompt.messages)[:WIDTH]}\n<<< {text[:WIDTH]}{cut}")
