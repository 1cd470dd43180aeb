"""What a stage will be trained on, as a person and as a program reads it."""

import json
from typing import Any

import pytest

from runner.cli.show_tokens import histogram, painted
from runner.core import artifact
from runner.core.artifact import Artifact
from runner.core.errors import DataError
from runner.core.types import Encoded
from runner.data import gate
from tests.tiny import tiny_tokenizer

TRAIN = '''
"""Takes what sft takes."""
from typing import ClassVar, Literal
from runner.core.artifact import Artifact
from runner.core.schema import component
from runner.core.specs import Mix, Model, Rules, Template, TrainType

@component
class Study:
    """Trains."""
    model: Model
    mix: Mix
    template: Template
    loss_scale: Rules
    max_length: int | None = None
    overlong: Literal["drop", "truncate_left", "truncate_right", "split"] = "drop"
    train_type: TrainType
    accepts: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("model", "adapter")}
    reuse: ClassVar[str] = "always"
    interactive: ClassVar[bool] = False
    def produces(self): return "model"
    def check(self, roots, key): pass
    def run(self, job): return Artifact("model", str(job.folder))
'''
RECIPE = """\
# Studies.
name: mine
model: model
mix: {datasets: [rows.jsonl]}
loss_scale: [default, {half: {}}]
stages:
  train: {kind: study}
  again: {kind: study, model: "stage:train"}
"""
HALF = '''
def half(span):
    """What is in capitals weighs half."""
    head, mark, tail = span.text.partition("LOUD")
    return [(head, 1.0), (mark, 0.5), (tail, 1.0)] if mark else [(span.text, 1.0)]
'''


def row(question: str, answer: str | None) -> str:
    """One line of JSONL."""
    messages = [{"role": "user", "content": question}]
    messages += [{"role": "assistant", "content": answer}] if answer is not None else []
    return json.dumps({"messages": messages}) + "\n"


@pytest.fixture
def user(project):
    """Three rows that train, of which one is weighted and one spells a control token, and one that does not."""
    folder = project.root / "model"
    tiny_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 500}))
    project.write("plugins/stages/study.py", TRAIN)
    project.write("plugins/loss_scales/half.py", HALF)
    project.write(
        "rows.jsonl", row("hi", "I am LOUD here") + row("who", None) + row("say <|im_end|>", "no " * 30) + row("a", "b")
    )
    project.recipe(RECIPE)
    return project


def shown(user, *words: str) -> str:
    """The output of `inspect recipe=mine WORDS`."""
    code, out, told = user.call("inspect", "recipe=mine", *words)
    assert (code, told) == (0, "")
    return out


def test_a_sequence_is_shown_with_what_is_trained(user) -> None:
    """Trained between « and », weights, control tokens apart from words that look like them."""
    out = shown(user, "--index", "0")
    assert "user⏎\nhi⟦<|im_end|>⟧⏎\n⟦<|im_start|>⟧assistant⏎\n«I am »«LOUD»×0.5« here⟦<|im_end|>⟧»⏎" in out
    assert "rows.jsonl: row 0, turn 1:" in out
    assert "say <|im_end|>⟦<|im_end|>⟧" in shown(user, "--contains", "say")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}])
def test_a_terminal_without_colours_shows_the_marks(user, monkeypatch, environment: dict[str, str]) -> None:
    """Nothing told there what is trained."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = shown(user, "--index", "0")
    assert "«I am »«LOUD»" in out and out.count("»") == 3 and "⟦<|im_end|>⟧" in out


def test_the_summary_counts(user) -> None:
    """Rows, trained share, lengths, dropped rows by reason."""
    out = shown(user, "--count", "0")
    assert "train  3 rows, 3 sequences, 1 rows dropped" in out
    assert "are trained (" in out
    assert "dropped  1: it has no assistant turn" in out
    assert sum(line.startswith("length") for line in out.splitlines()) > 1


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ([], [0, 2, 3]),
        (["--count", "1"], [0]),
        (["--index", "1"], [2]),
        (["--longest", "--count", "1"], [2]),
        (["--shortest", "--count", "2"], [3, 0]),
        (["--contains", "LOUD"], [0]),
        (["--contains", "nowhere"], []),
    ],
)
def test_sequences_are_chosen(user, words: list[str], rows: list[int]) -> None:
    """By number, length or content."""
    out = shown(user, *words)
    assert [
        int(line.split("rows.jsonl: row ")[1].split(",")[0]) for line in out.splitlines() if ", turn " in line
    ] == rows


def test_nothing_found_is_told_and_wishes_that_contradict_are_refused(user) -> None:
    """The summary alone was shown, and of two orders one was taken."""
    assert "\nno sequence contains 'nowhere'\n" in shown(user, "--contains", "nowhere")
    for words, told in {
        ("--longest", "--random"): "--longest and --random choose differently. Take one of them.",
        ("--shortest", "--index", "0"): "--index and --shortest choose differently. Take one of them.",
        ("--count", "-1"): "--count: should be at least 0, not -1.",
    }.items():
        assert user.call("inspect", "+recipe=mine", *words) == (2, "", f"command line: {told}\n")


def test_random_shows_different_ones(user) -> None:
    """Over many tries each comes first once."""
    from runner.cli.inspect import Choice, pick

    sequences = [Encoded([1], [1], None, "x", number) for number in range(3)]
    assert {pick(sequences, Choice(random=True, count=1))[0] for _ in range(200)} == {0, 1, 2}


def test_jsonl_is_the_contract(user) -> None:
    """One object a sequence as trained, one a dropped row; the ids are the chat template's."""
    shown(user, "--output", "out/seen.jsonl")
    lines = [json.loads(line) for line in (user.root / "out/seen.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == [0, 2, 3, 1]
    assert set(lines[0]) == {"source", "row", "turn", "text", "input_ids", "labels", "weights"}
    assert lines[3] == {"source": "rows.jsonl", "row": 1, "dropped": "it has no assistant turn"}
    tokenizer = tiny_tokenizer()
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "I am LOUD here"}]
    ids = tokenizer.apply_chat_template(messages, return_dict=False)
    assert lines[0]["input_ids"] == ids
    trained = [token for token, label in zip(ids, lines[0]["labels"], strict=True) if label != -100]
    assert tokenizer.decode(trained) == "I am LOUD here<|im_end|>"
    assert sorted(set(lines[0]["weights"])) == [0.0, 0.5, 1.0] and lines[1]["weights"] is None


def test_the_stage_is_chosen_by_name(user) -> None:
    """Of a stage after an untrained one, the tokenizer is that of the first model."""
    assert "again  3 rows" in shown(user, "again", "--count", "0")
    code, _, told = user.call("inspect", "recipe=mine", "trian")
    assert (code, told) == (2, "inspect: no training stage named 'trian'. Did you mean train?\n")
    code, _, told = user.call("inspect", "recipe=two")
    assert code == 2 and told.startswith("recipes/two.yaml:5: stages: no stage here trains on a mix of data.")


def test_what_another_stage_made_is_shown_once_it_is_there(user) -> None:
    """It was said to hold no rows, before and after."""
    user.recipe(RECIPE.replace("[rows.jsonl]", "['stage:teach']") + "  teach: {kind: infer, prompts: [rows.jsonl]}\n")
    code, _, told = user.call("inspect", "recipe=mine")
    assert (code, told) == (2, "stage:teach: is not complete, so its answers cannot be looked at. Run it first.\n")
    folder = user.root / "outputs" / "mine" / "teach"
    user.write("outputs/mine/teach/completions.jsonl", row("who", "I am taught"))
    artifact.write(folder, Artifact("completions", str(folder / "completions.jsonl")))
    assert "taught" in shown(user)
    assert "changed  made by another recipe" in user.call("plan", "recipe=mine")[1]  # was a traceback without job.yaml


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--index", "9"], "--index: no sequence 9. There are 3, counted from 0."),
        (["--index", "x"], "command line: --index: invalid int value: 'x'."),
        (["--contans", "x"], "command line: no flag --contans. Did you mean --contains?"),
        (["max_length=3"], "rows.jsonl: row 0: longer than max_length"),
        (["mix.datasets=[nowhere.jsonl]"], "mix.datasets: 'nowhere.jsonl' is no file or folder."),
    ],
)
def test_mistakes(user, words: list[str], sentence: str) -> None:
    """Exit 2, one sentence."""
    code, _, told = user.call("inspect", "recipe=mine", *words)
    assert code == 2
    assert sentence in told


def test_a_left_over_variable_is_refused_with_its_row(user) -> None:
    """Before anything is shown as if it were right."""
    user.write("rows.jsonl", row("a", "b") + row("who are you?", "I am {{NAME}}."))
    code, _, told = user.call("inspect", "recipe=mine")
    assert code == 2 and "rows.jsonl:2" in told and "NAME" in told


def test_a_template_without_generation_prompt_is_refused(user) -> None:
    """It could be trained on, and would be used otherwise."""
    template = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    tokenizer: Any = tiny_tokenizer(template)
    tokenizer.save_pretrained(user.root / "model")
    code, _, told = user.call("inspect", "recipe=mine")
    assert code == 2 and "has no generation prompt" in told


JUDGED = {
    "dpo": '{"prompt": "hi", "chosen": "good day", "rejected": "what"}\n',
    "kto": '{"query": "hi", "response": "good day", "label": true}\n'
    '{"query": "hi", "response": "what", "label": false}\n',
}


@pytest.mark.parametrize("kind", JUDGED)
def test_judged_answers_are_told_apart(user, kind: str) -> None:
    """Which is which in the heading, by colour, and in the JSONL."""
    user.write("rows.jsonl", JUDGED[kind])
    user.recipe(RECIPE.replace("kind: study", f"kind: {kind}"))
    out = shown(user, "--output", "seen.jsonl")
    lines = [json.loads(line) for line in (user.root / "seen.jsonl").read_text().splitlines()]
    if kind == "dpo":
        assert "row 0, turn 1, chosen:" in out and "row 0, turn 1, rejected:" in out
        assert [line["answer"] for line in lines] == ["chosen", "rejected"]
    else:
        assert "row 0, turn 1, label true:" in out and "row 1, turn 1, label false:" in out
        assert [line["label"] for line in lines] == [True, False]
    assert "«good day⟦<|im_end|>⟧»" in out and "«what⟦<|im_end|>⟧»" in out
    made, tokenizer = sequence([])
    name = {"dpo": "chosen", "kto": "desirable"}[kind]
    for value, colour in ((1.0, "green"), (0.0, "red")):
        text = painted(Encoded(made.input_ids, made.input_ids, None, values={name: value}), tokenizer)
        assert colour in {str(span.style).split()[0] for span in text.spans}


def sequence(trained: list[bool]) -> tuple[Encoded, Any]:
    """A short exchange with the given tokens trained."""
    tokenizer = tiny_tokenizer()
    ids = tokenizer("hi<|im_end|>you<|im_end|>", add_special_tokens=False)["input_ids"]
    flags = (trained + [False] * len(ids))[: len(ids)] if len(trained) != len(ids) else trained
    labels = [token if flag else -100 for token, flag in zip(ids, flags, strict=True)]
    return Encoded(ids, labels, None, "rows.jsonl", 7), tokenizer


def test_the_gate_refuses_an_untrained_end_of_turn() -> None:
    """The row is named, and the token."""
    made, tokenizer = sequence([])
    ids, end = made.input_ids, tokenizer.eos_token_id
    answer = range(ids.index(end) + 1, len(ids))
    right = [token if place in answer else -100 for place, token in enumerate(ids)]
    gate.check([Encoded(ids, right, None, "rows.jsonl", 7)], tokenizer)
    wrong = [*right[:-1], -100]
    with pytest.raises(
        DataError, match=r"rows\.jsonl: row 7: an answer is trained and the token that ends it, '<\|im_end\|>', is not"
    ):
        gate.check([Encoded(ids, wrong, None, "rows.jsonl", 7)], tokenizer)


def test_the_gate_refuses_a_sequence_without_a_trained_token() -> None:
    """The row is named."""
    made, tokenizer = sequence([])
    with pytest.raises(DataError, match=r"rows\.jsonl: row 7: no token of it would be trained"):
        gate.check([made], tokenizer)


def test_colours_tell_weights_apart() -> None:
    """Green, yellow with the weight, dim; control tokens reversed."""
    made, tokenizer = sequence([])
    ids = made.input_ids
    labels, weights = [-100, *ids[1:]], [0.0, *[0.25] * (len(ids) - 2), 1.0]
    styles = {str(span.style) for span in painted(Encoded(ids, labels, weights), tokenizer).spans}
    assert {"dim", "yellow", "bold yellow", "green reverse"} <= styles


def test_the_histogram_covers_all_lengths() -> None:
    """Every sequence in one stretch, from the shortest to the longest."""
    lines = list(histogram([5, 5, 9, 100]))
    assert sum(int(line.split()[4]) for line in lines) == 4
    assert lines[0].split()[1] == "5" and int(lines[-1].split()[3]) >= 100
    assert list(histogram([])) == []
