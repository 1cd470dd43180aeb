"""The graph: order, what is reused and why, what is refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from runner import plan, reuse
from runner.core.errors import ConfigError, DataError, PlanError
from runner.core.places import roots


def made(stages: dict, **more) -> plan.Plan:
    """Plan stages of the fixture's kinds."""
    return plan.make(
        {"name": "x", "output_dir": "outputs/x", "model": {"id": "a/b"}, "stages": stages, **more}, roots()
    )


def test_stages_come_after_what_they_need_and_otherwise_as_written(project) -> None:
    """A diamond, written backwards."""
    stages = {
        "last": {"kind": "tally", "model": "stage:right"},
        "right": {"kind": "echo", "model": "stage:base"},
        "left": {"kind": "echo", "model": "stage:base"},
        "free": {"kind": "echo"},
        "base": {"kind": "echo"},
    }
    done = made(stages)
    assert [step.name for step in done.steps] == ["free", "base", "right", "last", "left"]
    assert done.step("last").needs == ("right",)


def test_a_cycle_is_named(project) -> None:
    """The stages of the cycle, in order."""
    stages = {"a": {"kind": "echo", "model": "stage:b"}, "b": {"kind": "echo", "model": "stage:a"}}
    with pytest.raises(PlanError, match=r"stages: a cycle: (a -> b -> a|b -> a -> b)"):
        made(stages)


def test_a_stage_inherits_layers_and_keeps_its_own_copy(project) -> None:
    """What the stage says lies over the shared layer; the rest of the layer stays."""
    done = made({"a": {"kind": "echo", "optim": {"lr": 3.0}}, "b": {"kind": "echo"}}, optim={"lr": 1.0, "warmup": 0.5})
    assert (done.step("a").stage.optim.lr, done.step("a").stage.optim.warmup) == (3.0, 0.5)
    assert done.step("b").stage.optim.lr == 1.0


def test_a_reference_may_lie_deep(project) -> None:
    """`stage:NAME` in a list of datasets makes the stage needed, and becomes its folder."""
    done = made({"a": {"kind": "echo", "mix": {"datasets": ["stage:b#10"]}}, "b": {"kind": "tally"}})
    assert done.step("a").needs == ("b",)
    assert f"{Path.cwd()}/outputs/x/b#10" in plan.work_order(done, done.step("a"))


def test_names_of_stages_are_names_of_folders(project) -> None:
    """Nothing outside the run folder, nothing over its own files."""
    for name in ("a/b", "..", ".hydra", "config.yaml", ""):
        with pytest.raises(ConfigError, match="cannot be the name of a stage"):
            made({name: {"kind": "echo"}})


def test_finished_work_is_reused_and_changes_are_told(project) -> None:
    """Same keys: reuse. Another key: changed, from what to what, and everything after it too."""
    assert project.call("recipe=two")[0] == 0
    code, out, _ = project.call("plan", "recipe=two")
    assert code == 0 and out.count("reuse  complete") == 2
    code, out, _ = project.call("plan", "recipe=two", "stages.first.words=bye")
    assert "words: 'hello' -> 'bye'" in out and "first changed" in out
    assert project.call("recipe=two", "stages.second.words=bye")[0] == 2


def test_a_stage_that_has_answered_nothing_yet_stands_in_nobodys_way(tmp_path: Path) -> None:
    """A first try that failed while the model was loaded; one with answers is told and kept."""
    order = {"fingerprint": "old", "identity": {"kind": "infer", "keys": {"x": 1}}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(order))
    stage, other = SimpleNamespace(reuse="always"), {"kind": "infer", "keys": {"x": 2}}
    for rows, journal, expected in ((0, "", "run"), (3, "", "changed"), (0, '{"row": 0}\n', "changed")):
        (tmp_path / "progress.json").write_text(json.dumps({"mark": "m", "file": "f", "rows": rows, "bytes": 0}))
        (tmp_path / "journal.jsonl").write_text(journal)
        assert reuse.state(stage, tmp_path, other, [])[0] == expected


def test_what_cannot_be_read_of_answers_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text('{"mark": ')
    with pytest.raises(
        DataError, match=r"progress\.json: cannot be read\. Remove the folder .*, and the stage is done"
    ):
        reuse.state(SimpleNamespace(reuse="always"), tmp_path, {"kind": "infer"}, [])


def test_a_run_again_reuses_what_is_complete(project) -> None:
    """Nothing runs twice; removing a stage's artifact runs it and what needs it."""
    project.call("recipe=two")
    log = project.root / "outputs/two/first/log.txt"
    before = log.read_text()
    code, out, _ = project.call("recipe=two")
    assert code == 0 and out.count("reused, complete") == 2
    assert log.read_text() == before
    (project.root / "outputs/two/first/artifact.json").unlink()
    code, out, _ = project.call("plan", "recipe=two")
    assert "not complete" in out and "first runs again" in out


def test_on_change_decides_about_finished_work(project) -> None:
    """refuse: exit 2 and the difference. new: a folder beside it. replace: in its place."""
    project.call("recipe=two")
    code, _, told = project.call("recipe=two", "optim.lr=2e-4")
    assert code == 2
    assert "outputs/two: holds other work" in told and "first: optim.lr: 0.0001 -> 0.0002" in told
    assert "on_change=replace" in told
    code, _, _ = project.call("recipe=two", "optim.lr=2e-4", "on_change=new")
    assert code == 0 and (project.root / "outputs/two-2/second/artifact.json").is_file()
    assert "0.0002" not in (project.root / "outputs/two/first/log.txt").read_text()
    code, _, _ = project.call("recipe=two", "optim.lr=2e-4", "on_change=replace")
    assert code == 0 and "0.0002" in (project.root / "outputs/two/first/log.txt").read_text()
    assert not (project.root / "outputs/two-3").exists()


def test_what_is_made_of_what_is_made_again_begins_anew_when_it_may_be_replaced(project) -> None:
    """Its folder holds checkpoints of other data; without on_change=replace they stay, for the training to judge."""
    project.call("recipe=two")
    left = project.write("outputs/two/second/checkpoint-3/state", "of the first run")
    first = project.root / "outputs/two/first/artifact.json"
    for words, kept in (((), True), (("on_change=replace",), True), (("on_change=replace", "again"), False)):
        if "again" in words or not words:
            first.unlink()
        assert project.call("recipe=two", *(word for word in words if word != "again"))[0] == 0
        assert left.exists() == kept
        assert first.exists()


def test_keys_of_execution_resume_the_same_run(project) -> None:
    """Other devices, the same work."""
    project.call("recipe=two")
    code, out, _ = project.call("recipe=two", "parallelism=zero3", "parallelism.gpus=4", "batch.tokens_per_device=100")
    assert code == 0 and out.count("reused, complete") == 2


def test_a_stage_that_is_never_reused_runs_each_time(project) -> None:
    """And it does not make what it needs run again."""
    project.recipe("# x\nname: talk\nmodel: a/b\nstages: {a: {kind: echo}, b: {kind: tally, model: 'stage:a'}}\n")
    project.call("recipe=mine")
    code, out, _ = project.call("plan", "recipe=mine")
    assert code == 0 and "complete" in out and "runs each time" in out
