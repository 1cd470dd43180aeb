"""Preferences and labels that cannot be learned from, and keys of dpo and kto that contradict each other."""

from tests.bad_inputs.case import Case
from tests.user import GOOD, HEAD

COMMON = "mix: {datasets: [rows.jsonl]}\ntrain_type: {kind: lora, lora: {rank: 2}}\nbatch: {rows: 4}\nmax_length: 100\n"
FILES = tuple(
    (f"recipes/{kind}.yaml", f"{HEAD}name: {kind}\n{COMMON}stages: {{train: {{kind: {kind}}}}}\n")
    for kind in ("dpo", "kto")
)
PAIR = '{"prompt": "q", "chosen": "good", "rejected": "bad"}\n'
NONE = "None of the 1 rows can be trained on."
A_PAIR = "(a pair has chosen and rejected, or messages and rejected_response)"


def dpo(sentence: str, rows: str, more: str = "", code: int = 2) -> Case:
    """A case of preferences."""
    return Case(sentence, rows, f"recipe=dpo {more}", code, FILES)


def kto(sentence: str, rows: str, more: str = "") -> Case:
    """A case of labels."""
    return Case(sentence, rows, f"recipe=kto {more}", files=FILES)


CASES = {
    "conversations where pairs are wanted": dpo(
        f"rows.jsonl: row 0: chosen and rejected are missing {A_PAIR}. None of the 20 rows can be trained on.", GOOD
    ),
    "no chosen answer": dpo(
        f"rows.jsonl: row 0: chosen is missing {A_PAIR}. {NONE}", '{"prompt": "q", "rejected": "b"}\n'
    ),
    "a pair without its other half": dpo(
        f"rows.jsonl: 1 of 2 rows cannot be trained on: rejected is missing; for example rows.jsonl: row 1: "
        f"rejected is missing {A_PAIR}. Mend the rows, or allow so many: data.max_dropped=0.5.",
        PAIR + '{"prompt": "q", "chosen": "good", "rejected": null}\n',
    ),
    "equal answers": dpo(
        f"rows.jsonl: row 0: chosen and rejected are the same. {NONE}",
        '{"prompt": "q", "chosen": "a", "rejected": "a"}\n',
    ),
    "an empty answer": dpo(
        f"rows.jsonl: row 0: rejected is empty. {NONE}", '{"prompt": "q", "chosen": "a", "rejected": ""}\n'
    ),
    "answers without a question": dpo(
        "rows.jsonl: row 0: the question is missing (columns for it: query, prompt,",
        '{"chosen": "a", "rejected": "b"}\n',
    ),
    "an answer that is no text": dpo(
        f"rows.jsonl: row 0: chosen is no text (int 3). {NONE}", '{"prompt": "q", "chosen": 3, "rejected": "b"}\n'
    ),
    "a pair that ends with a question": dpo(
        f"rows.jsonl: row 0: chosen does not end with an assistant turn. {NONE}",
        '{"chosen": [{"role": "user", "content": "q"}], "rejected": [{"role": "user", "content": "r"}]}\n',
    ),
    "one answer of a pair over max_length": dpo(
        "rows.jsonl: row 0: longer than max_length (", PAIR.replace("bad", "bad " * 100)
    ),
    "a loss that there is not": dpo("should be 'sigmoid',", PAIR, "+stages.train.loss_type=sigmod"),
    "weights of losses that are not there": dpo(
        "stages.train.loss_weights: 2 weights. One for each loss_type: sigmoid.",
        PAIR,
        "+stages.train.loss_weights=[1.0,0.5]",
    ),
    "a reference that there is not": dpo(
        "should be 'precomputed' or 'free', not 'frei'", PAIR, "+stages.train.reference=frei"
    ),
    "no label": kto(
        f"rows.jsonl: row 0: the label is missing (an answer has a label, true or false). {NONE}",
        '{"query": "q", "response": "a"}\n',
    ),
    "a label that is none": kto(
        f"rows.jsonl: row 0: label is neither true nor false ('maybe'). {NONE}",
        '{"query": "q", "response": "a", "label": "maybe"}\n',
    ),
    "a label without an answer": kto(
        "rows.jsonl: row 0: the answer is missing (columns for it: response,", '{"query": "q", "label": true}\n'
    ),
    "a single labelled answer": kto(
        "mix.datasets: 1 row, and kto measures against answers to other questions. It takes two rows.",
        '{"query": "q", "response": "a", "label": true}\n',
    ),
    "a single labelled answer kept aside": kto(
        "mix.validation: 1 row, and kto measures against answers to other questions. It takes two rows.",
        '{"query": "q", "response": "a", "label": true}\n{"query": "r", "response": "b", "label": false}\n' * 2,
        "mix.validation.rows=1",
    ),
}
