"""Rewards, rules, formats and stage kinds of a user's that are broken or hostile."""

from tests.bad_inputs.case import Case

EVALUATE = "recipe=asked stages.ask.kind=evaluate stages.ask.prompts=[rows.jsonl#2] stages.ask.reward={mine:{}}"
RULE = "recipe=mine loss_scale=[mine]"
FORMAT = "recipe=mine mix.datasets=[{dataset:rows.jsonl,format:mine}]"


def plugin(text: str, kind: str = "rewards") -> tuple[tuple[str, str], ...]:
    """The plugin `mine`."""
    return ((f"plugins/{kind}/mine.py", text),)


CASES = {
    "a reward that is no Python": Case(
        "{root}/plugins/rewards/mine.py:1: is not Python: invalid syntax (mine.py, line 1).",
        words=EVALUATE,
        files=plugin("def mine(:\n"),
    ),
    "a reward without its function": Case(
        "{root}/plugins/rewards/mine.py: has no function named mine. Name it like the file.",
        words=EVALUATE,
        files=plugin("def other(completions): ...\n"),
    ),
    "a reward that imports what is not there": Case(
        ("{root}/plugins/rewards/mine.py: cannot be imported: ModuleNotFoundError: No module named 'no_such_module'."),
        words=EVALUATE,
        files=plugin("import no_such_module\ndef mine(completions): ...\n"),
    ),
    "a reward that exits when imported": Case(
        "{root}/plugins/rewards/mine.py: cannot be imported: SystemExit: 3.",
        words=EVALUATE,
        files=plugin("import sys\nsys.exit(3)\ndef mine(completions): ...\n"),
    ),
    "a reward that needs a column": Case(
        (
            "command line: stages.ask.reward={mine:{}}: stages.ask.reward.mine: needs the column "
            "'solution', which the data does not have. Choices: messages."
        ),
        words=EVALUATE,
        files=plugin("def mine(completions, *, solution): ...\n"),
    ),
    "a reward that compares answers with themselves": Case(
        "stages.ask.reward.mine: asks for 'response', which is the answer that the model gave. Ask for 'reference'",
        words=EVALUATE,
        files=plugin("def mine(completions, *, response): ...\n"),
    ),
    "a reward that returns nothing": Case(
        ("reward mine: returned None instead of a list. Return one number, or None for no score, a completion."),
        words=EVALUATE,
        files=plugin("def mine(completions): ...\n"),
    ),
    "a reward with too few scores": Case(
        ("reward mine: returned 1 scores for 2 completions. Return one number, or None for no score, a completion."),
        words=EVALUATE,
        files=plugin("def mine(completions): return [1]\n"),
    ),
    "a reward of words": Case(
        ("reward mine: returned 'good' as a score. Return one number, or None for no score, a completion."),
        words=EVALUATE,
        files=plugin("def mine(completions): return ['good'] * len(completions)\n"),
    ),
    "a reward that raises": Case(
        "reward mine: failed on 1 of the last 2 completions, more than 10%. Its first failure: KeyError: 'x'.",
        words=EVALUATE,
        code=1,
        files=plugin("def mine(completions): raise KeyError('x')\n"),
    ),
    "a reward that ends its process": Case(
        (
            "reward mine: failed on 1 of the last 2 completions, more than 10%. Its first failure: its process "
            "ended (exit code 3)."
        ),
        words=EVALUATE,
        code=1,
        files=plugin("import os\ndef mine(completions): os._exit(3)\n"),
    ),
    "a reward that takes no completions": Case(
        (
            "{root}/plugins/rewards/mine.py:1: mine takes nothing positional: nowhere to give the data. "
            "Form: def mine(data, *, parameter=default)."
        ),
        words=EVALUATE,
        files=plugin("def mine(): return [1]\n"),
    ),
    "a rule that is no Python": Case(
        "{root}/plugins/loss_scales/mine.py:1: is not Python: '(' was never closed (mine.py, line 1).",
        words=RULE,
        files=plugin("def mine(\n", "loss_scales"),
    ),
    "a rule that imports what is not there": Case(
        ("{root}/plugins/loss_scales/mine.py: cannot be imported: ModuleNotFoundError: No module named 'no_such'."),
        words=RULE,
        files=plugin("import no_such\ndef mine(span): ...\n", "loss_scales"),
    ),
    "a rule that exits": Case(
        "{root}/plugins/loss_scales/mine.py: cannot be imported: SystemExit.",
        words=RULE,
        files=plugin("raise SystemExit\ndef mine(span): ...\n", "loss_scales"),
    ),
    "a rule that raises": Case(
        ("{root}/plugins/loss_scales/mine.py: mine failed on 'It is 0.': ZeroDivisionError: division by zero."),
        words=RULE,
        files=plugin("def mine(span): return 1 / 0\n", "loss_scales"),
    ),
    "a rule that exits the process in its call": Case(
        "{root}/plugins/loss_scales/mine.py: mine failed on 'It is 0.': SystemExit: 3.",
        words=RULE,
        files=plugin("import sys\ndef mine(span): sys.exit(3)\n", "loss_scales"),
    ),
    "a rule that loses text": Case(
        (
            "{root}/plugins/loss_scales/mine.py: the pieces that mine returns do not make up the span 'It "
            "is 0.'. Joined they must be its text, nothing left out and nothing changed."
        ),
        words=RULE,
        files=plugin("def mine(span): return [('x', 1.0)]\n", "loss_scales"),
    ),
    "a rule that returns a number": Case(
        ("{root}/plugins/loss_scales/mine.py: mine failed on 'It is 0.': TypeError: 'int' object is not iterable."),
        words=RULE,
        files=plugin("def mine(span): return 3\n", "loss_scales"),
    ),
    "a rule with negative weights": Case(
        ("{root}/plugins/loss_scales/mine.py: mine returns -1.0 as a weight. Weights are numbers from 0 on."),
        words=RULE,
        files=plugin("def mine(span): return [(span.text, -1.0)]\n", "loss_scales"),
    ),
    "a rule that takes no span": Case(
        (
            "{root}/plugins/loss_scales/mine.py:1: mine takes nothing positional: nowhere to give the data. "
            "Form: def mine(data, *, parameter=default)."
        ),
        words=RULE,
        files=plugin("def mine(): return []\n", "loss_scales"),
    ),
    "a rule that masks everything": Case(
        ("rows.jsonl: row 0: nothing in it is trained: every weight is 0. None of the 20 rows can be trained on."),
        words=RULE,
        files=plugin("def mine(span): return [(span.text, 0.0)]\n", "loss_scales"),
    ),
    "a format that raises": Case(
        "rows.jsonl:1: the format mine failed on it: KeyError: 'x'.",
        words=FORMAT,
        files=plugin("def mine(row): return row['x']\n", "formats"),
    ),
    "a format that returns a mapping": Case(
        "rows.jsonl:1: the format mine returned dict instead of an Example.",
        words=FORMAT,
        files=plugin("def mine(row): return row\n", "formats"),
    ),
    "a stage kind that cannot be imported": Case(
        ("{root}/plugins/stages/mine.py: cannot be imported: ModuleNotFoundError: No module named 'no_such'."),
        words="recipe=mine stages.train.kind=mine",
        files=plugin("import no_such\n", "stages"),
    ),
}
