"""Answers that cannot be scored by `runner reward`."""

from tests.bad_inputs.case import Case

SCORE = "reward rows.jsonl "
FAILS = "def mine(completions, *, column):\n    raise KeyError(column[0])\n"

CASES = {
    "answers without a reward": Case("reward: no reward to score with. Choose one: reward=[contains]", words=SCORE),
    "a reward without answers": Case(
        "reward: no file to score. Write: runner reward completions.jsonl", words="reward reward=[format]"
    ),
    "two files of answers": Case(
        "reward: one file, not 2: rows.jsonl more.jsonl.", words=SCORE + "more.jsonl reward=[format]"
    ),
    "a file of answers that is not there": Case(
        "row.jsonl: not found. Give a run, a stage or a file of answers, such as",
        words="reward row.jsonl reward=[format]",
    ),
    "an empty file of answers": Case("rows.jsonl: holds no row.", rows="", words=SCORE + "reward=[format]"),
    "a row without an answer": Case(
        "rows.jsonl:1: holds no answer. A row needs `response`, or messages that end with the assistant's.",
        rows='{"messages": [{"role": "user", "content": "hi"}]}\n',
        words=SCORE + "reward=[format]",
    ),
    "a misspelt reward of answers": Case(
        "reward: no reward named 'formt'. Did you mean format?", words=SCORE + "reward=[formt]"
    ),
    "a reward whose column the answers lack": Case(
        "reward.accuracy: needs the column 'solution', which the data does not have.", words=SCORE + "reward=[accuracy]"
    ),
    "a misspelt parameter of a reward of answers": Case(
        "reward.contains.params.expect: contains takes no such parameter (value 1).",
        rows='{"response": "a", "messages": [], "expected": "a"}\n',
        words=SCORE + "reward=[contains] reward.contains.params.expect=1",
    ),
    "a misspelt flag of reward": Case("command line: no flag --outptu.", words=SCORE + "reward=[format] --outptu x"),
    "an output of reward without a file": Case(
        "command line: --output: expected one argument. Write --output FILE.jsonl.",
        words=SCORE + "reward=[format] --output",
    ),
    "a reward that raises on every answer": Case(
        "reward mine: failed on 1 of the last 1 completions, more than 10%. Its first failure: KeyError: 5.",
        rows='{"response": "a", "column": 5}\n',
        words=SCORE + "reward=[mine]",
        files=(("plugins/rewards/mine.py", FAILS),),
        code=1,
    ),
}
