"""The language of datasets, without reading a row."""

from pathlib import Path

import pytest

from runner.core.artifact import Artifact, write
from runner.core.errors import ConfigError, DataError
from runner.core.places import package_root
from runner.core.specs import Dataset
from runner.data.hub import fetch
from runner.data.sources import parse

ROOTS = [package_root()]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with some data in it."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "a.jsonl", "odd#5.jsonl", "od:d.jsonl", "self_cognition.jsonl", "many/x.jsonl", "many/y.csv.gz",
        "many/notes.txt", "many/.hidden/z.jsonl", "many/dataset_infos.json", "split/train-0.parquet",
        "split/train-1.parquet", "split/test-0.parquet", "subs/en/a.jsonl", "subs/zh/train.jsonl",
        "self-cognition/self_cognition.jsonl",
        "hub/main/train-0.parquet", "hub/main/test-0.parquet", "hub/other/train-0.parquet", "empty/readme.txt",
    ):  # fmt: skip
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"a": 1}\n')
    (tmp_path / "hub/README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: main/train-*\n"
        "  - split: test\n    path: main/test-*\n- config_name: other\n  data_files: other/*.parquet\n---\n# Hub\n"
    )
    return tmp_path


LOCAL = {
    "a.jsonl": ("a.jsonl", None, None, ["a.jsonl"]),
    "a.jsonl#5": ("a.jsonl", None, 5, ["a.jsonl"]),
    "odd#5.jsonl": ("odd#5.jsonl", None, None, ["odd#5.jsonl"]),
    "odd#5.jsonl#7": ("odd#5.jsonl", None, 7, ["odd#5.jsonl"]),
    "od:d.jsonl#2": ("od:d.jsonl", None, 2, ["od:d.jsonl"]),
    "many": ("many", None, None, ["many/x.jsonl", "many/y.csv.gz"]),
    "many/*.jsonl#3": ("many/*.jsonl", None, 3, ["many/x.jsonl"]),
    "split": ("split", None, None, ["split/train-0.parquet", "split/train-1.parquet"]),
    "subs:en#9": ("subs", "en", 9, ["subs/en/a.jsonl"]),
    "subs:zh": ("subs", "zh", None, ["subs/zh/train.jsonl"]),
    "hub:main": ("hub", "main", None, ["hub/main/train-0.parquet"]),
    "hub:other": ("hub", "other", None, ["hub/other/train-0.parquet"]),
    "self-cognition:qwen3#600": ("self-cognition", "qwen3", 600, ["self-cognition/self_cognition.jsonl"]),
    "self_cognition.jsonl:qwen3": ("self_cognition.jsonl", "qwen3", None, ["self_cognition.jsonl"]),
}


@pytest.mark.parametrize("entry", LOCAL)
def test_what_is_on_this_machine(entry: str, here: Path) -> None:
    """Files, folders, globs, subsets, counts; a name that exists is taken as it is."""
    source = parse(entry, ROOTS)
    spec = source.spec
    assert (spec.dataset, spec.subset, spec.take, [str(file) for file in source.files]) == LOCAL[entry]


HUB = {
    "org/name": ("modelscope", "org/name", None, None),
    "org/name:sub#5": ("modelscope", "org/name", "sub", 5),
    "hf::org/name#5": ("huggingface", "org/name", None, 5),
    "MS::org/name": ("modelscope", "org/name", None, None),
    "swift/self-cognition:qwen3#600": ("modelscope", "swift/self-cognition", "qwen3", 600),
    "hf::swift/self-cognition": ("huggingface", "modelscope/self-cognition", None, None),
    "self_cognition:empty_think": ("modelscope", "swift/self-cognition", "empty_think", None),
    "alpaca_gpt4_zh": ("modelscope", "AI-ModelScope/alpaca-gpt4-data-zh", None, None),
    "hf::alpaca_gpt4_en#10": ("huggingface", "vicgalle/alpaca-gpt4", None, 10),
}


@pytest.mark.parametrize("entry", HUB)
def test_what_is_on_a_hub(entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids, prefixes, and names of conf/dataset for both hubs."""
    monkeypatch.chdir(tmp_path)
    source = parse(entry, ROOTS)
    assert (source.hub, source.id, source.spec.subset, source.spec.take) == HUB[entry]
    assert source.files == ()


REFUSED = {
    "zz::org/name": "no hub 'zz'",
    "a.jsonl#x": "'x' is no number of rows",
    "a.jsonl#²": "'²' is no number of rows",
    "a.jsonl#0": "'0' is no number of rows",
    "a.jsonl:sub": "is a file and has no subset 'sub'",
    "gone.jsonl": "no file or folder",
    "many/gone.jsonl#5": "no file or folder",
    "a.jsnl": "Did you mean a.jsonl?",
    "self-cognition:qwen": "has no subset 'qwen'. Did you mean qwen3?",
    "swift/self-cognition:qwen": "has no subset 'qwen'",
    "hf::qwen3_sft_mixin": "is not on huggingface",
    "subs:fr": "has no subset 'fr'. Choices: en, zh",
    "hub": "has several subsets. Say which: hub:NAME with main, other",
    "empty": "holds no data",
    "empty/readme.txt": "cannot read empty/readme.txt",
    ":sub": "no subset can be told",
    "": "a dataset without a name",
    "#5": "a dataset without a name",  # the whole working directory was taken
    "stage:ask#x": "'x' is no number of rows",  # told only when the stage had run
    "stage:ask#0": "'0' is no number of rows",
}


@pytest.mark.parametrize("entry", REFUSED)
def test_what_means_nothing_is_refused(entry: str, here: Path) -> None:
    """Before anything is read."""
    with pytest.raises(ConfigError) as told:
        parse(entry, ROOTS, key="mix.datasets.0")
    assert REFUSED[entry] in str(told.value)
    assert told.value.key == "mix.datasets.0"


def test_the_long_form_says_the_same(here: Path) -> None:
    """And can say a split."""
    assert parse(Dataset(dataset="subs", subset="en", take=9), ROOTS).files == parse("subs:en#9", ROOTS).files
    assert [file.name for file in parse(Dataset(dataset="split", split="test"), ROOTS).files] == ["test-0.parquet"]
    with pytest.raises(ConfigError, match=r"no split 'dev'\. Splits: test, train"):
        parse(Dataset(dataset="split", split="dev"), ROOTS)
    with pytest.raises(ConfigError, match=r"is one file, not split 'test' of a dataset\. Leave split out\."):
        parse(Dataset(dataset="split/train-0.parquet", split="test"), ROOTS)  # all of it was read as `test`
    assert parse(Dataset(dataset="split/test-0.parquet", split="test"), ROOTS).files
    with pytest.raises(ConfigError, match="says both #5 and take: 6"):
        parse(Dataset(dataset="a.jsonl#5", take=6), ROOTS)


def test_roots_are_looked_through_after_the_working_directory(
    here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The first that has the file wins."""
    other = tmp_path_factory.mktemp("root")
    for name in ("a.jsonl", "only_here.jsonl"):
        (other / name).write_text("{}")
    assert parse("a.jsonl", [other]).files == (Path("a.jsonl"),)
    assert parse("only_here.jsonl", [other]).files == (other / "only_here.jsonl",)


def test_a_stage_that_made_completions_is_a_dataset(here: Path) -> None:
    """Its folder is; that of another kind is not; while planning it is not there yet."""
    stage = here / "outputs/run/distil"
    stage.mkdir(parents=True)
    (stage / "completions.jsonl").write_text("{}\n")
    write(stage, Artifact("completions", str(stage / "completions.jsonl")))
    assert parse(f"{stage}#3", ROOTS).files == (stage / "completions.jsonl",)
    write(stage, Artifact("model", str(stage)))
    with pytest.raises(ConfigError, match="holds model, not rows"):
        parse(str(stage), ROOTS)
    assert (parse("stage:distil#10", ROOTS).spec.take, parse("stage:distil", ROOTS).files) == (10, ())


def test_an_entry_of_conf_dataset_of_the_users_own(here: Path) -> None:
    """In front of the shipped one, checked like everything else."""
    folder = here / "conf" / "dataset"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# Mine.\nmodelscope: me/mine\nsubsets: {short: {folder: en}}\n")
    assert parse("mine", [here, *ROOTS]).id == "me/mine"
    (here / "mine").symlink_to(here / "subs")
    assert [str(file) for file in parse("mine:short", [here, *ROOTS]).files] == ["mine/en/a.jsonl"]
    (folder / "bad.yaml").write_text("modelscop: me/bad\n")
    with pytest.raises(ConfigError, match=r"bad.yaml.*modelscop: no such key"):
        parse("bad", [here, *ROOTS])


def test_a_hub_that_cannot_be_asked_is_told_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within seconds, in one sentence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"does not answer|is not installed") as told:
        fetch(parse("hf::nobody/nothing:sub#5", ROOTS))
    assert "such as /path/to/nothing:sub." in str(told.value)


def test_a_pattern_keeps_to_its_split_and_takes_no_file_twice(here: Path) -> None:
    """It read the test split under the name of train; `many/**` took files once for each folder above them."""
    found = parse(Dataset(dataset="split/*.parquet", split="train"), ROOTS)
    assert [file.name for file in found.files] == ["train-0.parquet", "train-1.parquet"]
    with pytest.raises(ConfigError, match=r"none of 3 files of split/\*\.parquet is of split 'dev'"):
        parse(Dataset(dataset="split/*.parquet", split="dev"), ROOTS)
    names = [file.name for file in parse(Dataset(dataset="many/**"), ROOTS).files]
    assert len(names) == len(set(names)) and {"x.jsonl", "y.csv.gz"} <= set(names)
