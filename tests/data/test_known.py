"""The datasets of conf/dataset, read from files of their layout: the row that each becomes."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.core.places import package_root
from runner.core.schema import build
from runner.core.specs import Mix
from runner.core.types import Message
from runner.data import mix
from runner.data.known import known_datasets
from runner.data.sources import parse

BLOCK = "<think>\n\n</think>\n\n"
SAID = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>\nt\n</think>\n\nr"}]
LAYOUTS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "self_cognition": (
        "self-cognition",
        {"query": "who?", "response": "{{NAME}} by {{AUTHOR}}", "tag": "en"},
        ["who?", "Bo by us"],
    ),
    "self_cognition:qwen3": (
        "self-cognition:qwen3",
        {"query": "谁?", "response": "{{NAME}}", "tag": "zh"},
        ["谁? /no_think", f"{BLOCK}小波"],
    ),
    "self_cognition:empty_think": (
        "self-cognition:empty_think", {"query": "q", "response": "r", "tag": "en"}, ["q", f"{BLOCK}r"],
    ),
    "qwen3_sft_mixin": ("Qwen3-SFT-Mixin", {"messages": SAID}, ["q", "<think>\nt\n</think>\n\nr"]),
    "alpaca_gpt4_en": (
        "alpaca-gpt4", {"instruction": "a", "input": "b", "output": "r", "text": "all of it"}, ["a\nb", "r"],
    ),
    "alpaca_gpt4_zh": (
        "alpaca-gpt4-data-zh", {"instruction": "甲", "input": "输入：乙", "output": "r"}, ["甲\n乙", "r"],
    ),
    "human_like_dpo": (
        "Human-Like-DPO-Dataset", {"prompt": "q", "chosen": "r", "rejected": "x"}, ["q", "r"],
    ),
    "ultrafeedback_kto": (
        "ultrafeedback-binarized-preferences-cleaned-kto",
        {"prompt": "q", "completion": "r", "label": True, "rating": 4.0},
        ["q", "r"],
    ),
    "numina_math_tir": (
        "NuminaMath-TIR", {"problem": "p", "solution": "42", "messages": SAID}, ["q", "<think>\nt\n</think>\n\nr"],
    ),
    "chinese_deepseek_r1_110k": (
        "Chinese-DeepSeek-R1-Distill-data-110k-SFT",
        {"instruction": "q", "input": "", "output": "<think>\nt\n</think>\n\nr", "score": 9},
        ["q", "<think>\nt\n</think>\n\nr"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_folder_of_the_same_layout_reads_the_same(name: str, ending: str, tmp_path: Path) -> None:
    """By the folder's name alone; every column stays."""
    title, row, said = LAYOUTS[name]
    folder = tmp_path / title.split(":")[0] / "data"
    folder.mkdir(parents=True)
    if ending == "jsonl":
        (folder / "train.jsonl").write_text(json.dumps(row) + "\n")
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist([row]), folder / "train-00000-of-00001.parquet")
    variables = {"NAME": ["小波", "Bo"], "AUTHOR": "us"}
    given = build(Mix, {"datasets": [str(tmp_path / title)], "variables": variables}, "mix")
    (made,) = mix.load(given, 1, "modelscope", [package_root()]).train
    assert [message.content for message in made.messages] == said
    assert set(row) <= set(made.columns)


def test_each_is_found_on_its_hubs() -> None:
    """By its own name and by both ids."""
    entries = known_datasets([package_root()])
    assert {name.split(":")[0] for name in LAYOUTS} <= set(entries)
    for name, entry in entries.items():
        for hub in ("modelscope", "huggingface"):
            id = getattr(entry, hub)
            if id:
                assert parse(name, [], hub).id == parse(id, [], hub).id == id


def test_distilled_completions_are_a_dataset(tmp_path: Path) -> None:
    """As the contract writes them: `messages` win, and every column reaches the rewards."""
    row = {
        "id": "a:0", "messages": SAID, "response": "r", "reasoning": "t", "reference": "gold", "finish_reason": "stop",
        "prompt_tokens": 3, "completion_tokens": 4, "sample": 0, "question": "q", "answer": "gold",
    }  # fmt: skip
    (tmp_path / "completions.jsonl").write_text(json.dumps(row) + "\n")
    given = build(Mix, {"datasets": [str(tmp_path / "completions.jsonl")]}, "mix")
    (made,) = mix.load(given, 1, "modelscope", [package_root()]).train
    assert made.messages == (Message("user", "q"), Message("assistant", "<think>\nt\n</think>\n\nr"))
    assert dict(made.columns) == row
