"""Output folders that hold other work or none, and things that only look like a model or a folder."""

from tests.bad_inputs import harm
from tests.bad_inputs.case import Case

ASK = "recipe=asked stages.ask.questions=[hi] "

CASES = {
    "finished work of other settings": Case(
        "train: max_updates: 1 -> 2", words="recipe=mine max_updates=2", harm=harm.another_recipe
    ),
    "begun work of another model": Case(
        "train: model tiny: ", words="recipe=mine max_updates=1", harm=harm.checkpoint_of_another_model
    ),
    "begun work of other data": Case(
        "train: data rows.jsonl: ", words="recipe=mine max_updates=1", harm=harm.checkpoint_of_other_data
    ),
    "half a checkpoint as a model": Case(
        "{root}/outputs/mine/train/checkpoint-1: this checkpoint was not written to its end.",
        words=ASK + "model=outputs/mine/train/checkpoint-1",
        harm=harm.half_a_checkpoint,
    ),
    "a stage that lost its model": Case(
        (
            "{root}/outputs/mine/train: what this stage made is gone: {root}/outputs/mine/train/model "
            "holds no model. Remove {root}/outputs/mine/train/artifact.json, and the run's own command makes it again."
        ),
        words=ASK + "model=outputs/mine/train",
        harm=harm.half_a_stage,
    ),
    "an unfinished stage as a model": Case(
        (
            "{root}/outputs/mine/train: this stage is not complete. Its newest checkpoint can be taken: "
            "{root}/outputs/mine/train/checkpoint-1"
        ),
        words=ASK + "model=outputs/mine/train",
        harm=harm.unfinished,
    ),
    "half an artifact": Case(
        "outputs/mine/train/artifact.json: cannot be read: Unterminated string",
        words="recipe=mine max_updates=1",
        harm=harm.half_an_artifact,
    ),
    "half a work order": Case(
        (
            "outputs/mine/train/job.yaml: cannot be read. Remove the folder outputs/mine/train, and the "
            "stage is done again."
        ),
        words="recipe=mine max_updates=1",
        harm=harm.half_a_job,
    ),
    "a file where the folder should be": Case(
        (
            "rows.jsonl: is there and is no folder. Choose another output_dir. What was complete stays; "
            "the same command goes on."
        ),
        words="recipe=mine output_dir=rows.jsonl",
        code=1,
    ),
    "a file above the folder": Case(
        (
            "rows.jsonl/x: lies below something that is no folder. Choose another output_dir. What was "
            "complete stays; the same command goes on."
        ),
        words="recipe=mine output_dir=rows.jsonl/x",
        code=1,
    ),
}
