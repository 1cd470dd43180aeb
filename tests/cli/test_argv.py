"""The command line as typed and as Hydra reads it."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from runner.cli.argv import kind, option

MODELS = ("qwen3_8b", "smollm2")
FREE = ("stages", "mix.variables")


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["recipe=x"], ["+recipe=x"]),
        (["+recipe=x"], ["+recipe=x"]),
        (["+recipe=x", "-m", "optim.lr=1e-4,1e-5"], ["-m", "+recipe=x", "optim.lr=1e-4,1e-5"]),
        (["hydra/launcher=joblib", "-m", "seed=1,2"], ["-m", "hydra/launcher=joblib", "seed=1,2"]),
        (["+recipe=x", "--cfg", "job"], ["--cfg", "job", "+recipe=x"]),
        (["+recipe=x", "--info", "defaults"], ["--info", "defaults", "+recipe=x"]),
        (["--info", "+recipe=x"], ["--info", "all", "+recipe=x"]),
        (["model=qwen3_8b"], ["model=qwen3_8b"]),
        (["model=qwen3_9b"], ["model=qwen3_9b"]),
        (["model=Qwen/Qwen3-8B"], ["model.id=Qwen/Qwen3-8B"]),
        (["model=outputs/quickstart"], ["model.id=outputs/quickstart"]),
        (["teacher=./big"], ["teacher.id=./big"]),
        (["model=gpt-5-mini", "backend=openai"], ["model.id=gpt-5-mini", "backend=openai"]),
        (["backend=openai", "model=smollm2"], ["backend=openai", "model=smollm2"]),
        (["model=qwen3_8b,smollm2"], ["model=qwen3_8b,smollm2"]),
        (["stages.train.optim.lr=1"], ["++stages.train.optim.lr=1"]),
        (["mix.variables={NAME: Ada}"], ["++mix.variables={NAME: Ada}"]),
        (["mix.variables.NAME=Ada"], ["++mix.variables.NAME=Ada"]),
        (["mix.variables.NAME=Ada Lovelace"], ["++mix.variables.NAME='Ada Lovelace'"]),
        (["~stages.ask"], ["~stages.ask"]),
        (
            ["template.response_prefix=<think>\\n\\n</think>\\n\\n"],
            ["template.response_prefix='<think>\n\n</think>\n\n'"],
        ),
        (
            ["mix.datasets=[a.jsonl#500,swift/self-cognition:qwen3#600]"],
            ["mix.datasets=['a.jsonl#500','swift/self-cognition:qwen3#600']"],
        ),
        (["mix.datasets=[a.jsonl],[b.jsonl#7]", "-m"], ["-m", "mix.datasets=[a.jsonl],['b.jsonl#7']"]),
        (["mix.datasets=[{dataset:a,take:3}]"], ["mix.datasets=[{dataset:a,take:3}]"]),
        (["name='a b,c'"], ["name='a b,c'"]),
        (["name=it's here"], ["name='it\\'s here'"]),
        (["seed=choice(1,2)"], ["seed=choice(1,2)"]),
        (["output_dir=${name}/x"], ["output_dir=${name}/x"]),
        (["output_dir=${a}/${b}"], ["output_dir=${a}/${b}"]),
        (["seed=${oc.decode:${oc.env:S}}"], ["seed='${oc.decode:${oc.env:S}}'"]),
        (["optim.lr="], ["optim.lr="]),
        (["x=a/b,'c d'"], ["x=a/b,'c d'"]),
        (["a=null", "b=[1,2]", "c={a:1}"], ["a=null", "b=[1,2]", "c={a:1}"]),
        (["x=a#1,b#2"], ["x='a#1','b#2'"]),
        (["output_dir=/datos/año/训练", "seed=1"], ["output_dir='/datos/año/训练'", "seed=1"]),
        (["mix.datasets=[数据.jsonl]"], ["mix.datasets=['数据.jsonl']"]),
    ],
)
def test_typed_becomes_read(typed: list[str], read: list[str]) -> None:
    """Each line of the table: what a person types, what Hydra is given."""
    assert kind(typed, MODELS, FREE) == read
    OverridesParser.create().parse_overrides(
        [word for word in read if not word.startswith("-") and "=" in word and word not in ("job", "defaults")]
    )


def test_a_folder_with_commas_in_its_name_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep's folders are named so, and a run ends by telling how to chat with what lies there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "multirun" / "lr=1,rows=2").mkdir(parents=True)
    assert kind(["model=multirun/lr=1,rows=2"], MODELS) == ["model.id='multirun/lr=1,rows=2'"]


def test_quoted_values_keep_their_meaning() -> None:
    """What was typed is what the config gets, letter by letter."""
    for text in ("a#b", "it's", "back\\slash here", "<think>", "a = b", "tail \\", "50% (of it)"):
        parsed = OverridesParser.create().parse_overrides(kind([f"key={text}"]))
        assert parsed[0].value() == text


def test_option_reads_both_forms() -> None:
    """`--config-dir DIR` and `--config-dir=DIR`."""
    assert option(["--config-dir", "a"], "--config-dir", "-cd") == "a"
    assert option(["--config-dir=a"], "--config-dir", "-cd") == "a"
    assert option(["x"], "--config-dir") is None
