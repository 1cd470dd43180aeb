"""The grpo stage: it learns what its reward wants, keeps each answer, goes on after any end, and says what is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.core.errors import ConfigError, DataError, StageError
from runner.core.job import Job
from tests.rollouts import run_sampled
from tests.rollouts.run_sampled import alerts, aside, evaluations, made, plugin, rows, run, stage
from tests.tiny import tiny_model
from tests.training.small import Silent

LEARN = {
    "train_type": {"kind": "full"}, "optim": {"lr": 3e-3, "schedule": "constant"}, "updates_per_rollout": 1,
    "num_iterations": 1, "beta": 0.0, "prompts_per_update": 8, "num_generations": 8, "max_updates": 30,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A user's folder with prompts and a reward."""
    rows(tmp_path)
    plugin(tmp_path)
    return tmp_path


def done(one: Any, place: Path, name: str = "out") -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]:
    """The artifact, the lines of metrics.jsonl and the answers."""
    out = place / name
    out.mkdir()
    artifact = one.run(Job("train", out, place, roots=(place,), fingerprint=name, progress=Silent()))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return artifact, lines, [json.loads(line) for line in (out / "completions.jsonl").read_text().splitlines()]


def test_it_raises_its_reward_over_a_control_that_does_not_learn(base: Path, place: Path) -> None:
    """The same prompts, seeds and number of updates; the control's rate is too small to move anything."""
    artifact, lines, answers = done(stage(place, base, **LEARN), place, "learns")
    still = {**LEARN, "optim": {"lr": 1e-12, "schedule": "constant"}}
    _, control, _ = done(stage(place, base, **still), place, "control")
    first, last, idle = (sum(one["reward"] for one in part) / 5 for part in (lines[:5], lines[-5:], control[-5:]))
    assert last > 4 * idle and abs(first - idle) < 0.03, (first, last, idle)
    assert artifact.kind == "model" and artifact.metrics["updates"] == 30
    assert artifact.metrics["reward"] == round(lines[-1]["reward"], 6) > 3 * artifact.metrics["first_reward"]
    assert len(answers) == 8 * sum(line["rows"] for line in lines)
    one = answers[0]
    assert one["update"] == 1 and "rows.jsonl:" in one["id"]
    assert one["messages"][-1] == {"role": "assistant", "content": one["response"]}
    assert set(one["rewards"]) == {"letters"} and one["reward"] == one["rewards"]["letters"]
    assert one["completion_tokens"] <= 6 and one["finish_reason"] in ("length", "stop")


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    rows(folder)
    plugin(folder)
    assert run(folder, base, folder / "out") == 0, (folder / "out/log").read_text()
    return (*made(folder / "out"), evaluations(folder / "out"), alerts(folder / "out"))


@pytest.mark.parametrize(
    ("event", "update"),
    [
        ("kill", 5),  # in the middle of the updates of a rollout; the checkpoint is of another one
        ("kill", 3),  # the checkpoint of update 3 is not written yet
        ("kill while saving", 6),
        ("stop", 4),  # in an evaluation, which the next start makes up for
        ("stop", 7),
        ("stop", 8),  # at the end of a rollout
        ("in a rollout", 1),  # the answers of the evaluation before the first update are sampled and not scored
        ("in a rollout", 2),  # the first rollout's; that evaluation is made again
        ("in a rollout", 3),  # the first evaluation's
        ("in a rollout", 4),  # the second rollout's
        ("in a rollout", 6),
    ],
)
def test_stopped_and_resumed_is_as_never_stopped(base: Path, place: Path, whole: Any, event: str, update: int) -> None:
    """Weights to the bit, every answer once, every figure."""
    if event == "in a rollout":
        (place / "kill_at").write_text(str(update))
    assert run(place, base, place / "out", event, update) == (130 if event == "stop" else -9)
    assert run(place, base, place / "out") == 0, (place / "out/log").read_text()
    digest, answers, lines = made(place / "out")
    assert answers == whole[1]
    assert lines == whole[2]
    assert digest == whole[0]
    assert evaluations(place / "out") == whole[3]
    assert alerts(place / "out") == whole[4] != []


@pytest.mark.parametrize("preset", ["ddp", "zero2"])
def test_two_devices_learn_what_one_does(base: Path, place: Path, whole: Any, preset: str) -> None:
    """Each samples and scores a part of the answers; all answers and figures are those of one device."""
    if preset == "zero2":
        pytest.importorskip("deepspeed")
    assert run(place, base, place / "out", world=2, preset=preset) == 0, (place / "out/log").read_text()
    _, answers, lines = made(place / "out")
    assert answers == whole[1] and evaluations(place / "out") == whole[3]
    for one, two in zip(whole[2], lines, strict=True):
        for name in {"loss", "grad_norm", "kl", "reward", "entropy", "eval_reward"} & set(one):
            # 1e-5, as between devices everywhere: AdamW makes rounding of a dozen updates larger (1.3e-6 was seen)
            assert two[name] == pytest.approx(one[name], rel=1e-4, abs=1e-5), (one["update"], name)


def test_a_reward_that_fails_on_another_device_is_told(base: Path, place: Path) -> None:
    """The first device speaks for all of them, and knew of its own failures alone."""
    text = "import os\nbad = [ValueError('odd')] * int(os.environ['RANK'])\n"
    text += "def letters(completions, *, place=''):\n"
    text += "    return [bad.pop() if bad and i == 3 else i % 4 for i in range(len(completions))]\n"
    plugin(place, text)
    assert run(place, base, place / "out", world=2) == 0, (place / "out/log").read_text()
    told = "reward letters failed on 1 of the last 19 answers"  # 8 on each device, 3 of an evaluation
    assert any(told in line for line in alerts(place / "out")), alerts(place / "out")


def test_each_phase_tells_what_it_took_of_the_gpu(base: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of learning was read before anything was learned, when the last update's was given back already."""
    from runner.rollouts import updates
    from runner.training._update_trainer import UpdateTrainer

    learned, plain = [0], UpdateTrainer.training_step

    def counted(*args: Any, **keys: Any) -> Any:
        made = plain(*args, **keys)
        learned[0] += 1
        return made

    monkeypatch.setattr(UpdateTrainer, "training_step", counted)
    monkeypatch.setattr(updates, "_on_gpu", lambda phase: {f"gpu_gib_{phase}": float(learned[0])})
    _, lines, _ = done(stage(place, base, **{**LEARN, "max_updates": 3}), place)
    assert [line.get("gpu_gib_learning") for line in lines] == [None, 1.0, 2.0]
    assert [line["gpu_gib_sampling"] for line in lines] == [0.0, 1.0, 2.0]


def test_an_evaluation_changes_nothing_that_is_learned(base: Path, place: Path) -> None:
    """With it and without, greedy and drawn: the same weights, answers and figures of training."""
    keys = {"max_updates": 6, "train_type": {"kind": "lora", "lora": {"rank": 4, "dropout": 0.5}}}
    keys |= {"disable_dropout": False}
    for name, more in {
        "without": {}, "greedy": aside(place, 2),
        "drawn": aside(place, 2, at_start=True, eval_temperature=1.0, num_generations_eval=3),
    }.items():  # fmt: skip
        done(stage(place, base, **keys, **more), place, name)
    digest, answers, lines = made(place / "without")
    for name, each, when in (("greedy", 1, (2, 4, 6)), ("drawn", 3, (0, 2, 4, 6))):
        found = made(place / name)
        assert found[:2] == (digest, answers)
        assert [line for line in found[2] if "loss" in line] == lines
        told = evaluations(place / name)
        assert [one["update"] for one in told] == [u for u in when for _ in range(3 * each)]
        assert {one["id"] for one in told} == {"aside.jsonl:0", "aside.jsonl:1", "aside.jsonl:2"}


def test_prompts_kept_aside_tell_the_reward_and_the_best_checkpoint(base: Path, place: Path) -> None:
    """The mean of what evaluations.jsonl holds, with its bounds. What raises the reward lowers it there."""
    text = "def letters(completions, *, number, place=''):\n"
    text += "    return [c.count('e') * (1.0 if n < 100 else -1.0) for c, n in zip(completions, number)]\n"
    plugin(place, text)
    keys = {**LEARN, "max_updates": 8, "save": {"every": 2, "keep": 2}, "num_generations_eval": 2}
    keys |= {"eval_temperature": 0.9, "optim": {"lr": 2e-2, "schedule": "constant"}}
    artifact, lines, _ = done(stage(place, base, **keys, **aside(place, 2, count=6, at_start=True)), place)
    told = {line["update"]: line for line in lines if "eval_reward" in line}
    answers = evaluations(place / "out")
    assert list(told) == [0, 2, 4, 6, 8]
    for update, line in told.items():
        scores = [one["reward"] for one in answers if one["update"] == update]
        assert len(scores) == line["eval_answers"] == 12 and line["eval_rows"] == 6
        assert line["eval_reward"] == line["eval_rewards/letters/mean"] == pytest.approx(sum(scores) / 12)
        assert line["eval_reward_low"] <= line["eval_reward"] <= line["eval_reward_high"]
        assert line["eval_completions/mean_length"] <= 6 and line["eval_unscored"] == 0
    start, metrics = told.pop(0), artifact.metrics
    best = max(told.values(), key=lambda line: line["eval_reward"])
    assert metrics["start_eval_reward"] == start["eval_reward"] >= best["eval_reward"]  # yet not the best: no model
    assert metrics["best_eval_reward"] == best["eval_reward"] and metrics["best_update"] == best["update"]
    assert metrics["eval_reward"] == told[8]["eval_reward"] and "eval_loss" not in metrics
    assert best["update"] == 2 and Path(metrics["best_checkpoint"]).name == "checkpoint-2"
    assert sorted(path.name for path in (place / "out").glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-8"]
    assert (place / "out/reward.png").stat().st_size > 5000


def test_prompts_kept_aside_need_the_columns_of_the_rewards(base: Path, place: Path) -> None:
    plugin(place, "def letters(completions, *, number, place=''): return [0.5] * len(completions)\n")
    keys = aside(place)
    (place / "aside.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "say 7"}]}) + "\n")
    with pytest.raises(ConfigError, match=r"reward.letters: needs the column 'number'"):
        stage(place, base, **keys).check([place], "stages.train")


def test_dynamic_sampling_draws_until_groups_differ_and_says_where_it_stops(
    base: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only some prompts have answers that differ; the others are asked, passed over and not learned from."""
    text = "def letters(completions, *, number, place=''):\n"
    plugin(place, text + "    return [float(sum(map(ord, c))) * (n % 4 == 0) for c, n in zip(completions, number)]\n")
    keys = {**LEARN, "prompts_per_update": 3, "max_updates": 2, "dynamic_sample": True, "max_resample_times": 2}
    _, lines, answers = done(stage(place, base, **keys), place)
    assert all(line["frac_reward_zero_std"] == 0 and line["drawn"] > 3 for line in lines)
    assert {int(one["messages"][0]["content"].split()[1]) % 4 for one in answers} == {0}
    assert "of 3 groups with a spread, after" in capsys.readouterr().out


def test_dynamic_sampling_that_finds_nothing_shows_what_it_drew(base: Path, place: Path) -> None:
    """It pointed to a completions.jsonl without a line, and knew no mean reward."""
    plugin(place, "def letters(completions, *, place=''): return [0.5] * len(completions)\n")
    keys = {**LEARN, "prompts_per_update": 2, "max_idle": 2, "dynamic_sample": True, "max_resample_times": 1}
    with pytest.raises(StageError, match=r"2 rollouts in a row had no group .* \(mean reward 0.5\)"):
        done(stage(place, base, **keys), place)
    assert len((place / "out/completions.jsonl").read_text().splitlines()) == 2 * 2 * 8


def test_cut_off_answers_carry_no_loss_and_may_be_left_out_of_the_mean(base: Path, place: Path) -> None:
    keys = {**LEARN, "max_updates": 1, "mask_truncated_completions": True, "truncated_in_mean": False}
    keys |= {"sampling": {"max_new_tokens": 20}, "prompts_per_update": 12}
    _, lines, answers = done(stage(place, base, **keys), place)
    cut_off = [one for one in answers if one["finish_reason"] == "length"]
    assert cut_off and all(one["masked"] for one in cut_off)
    assert not any(one["masked"] for one in answers if one["finish_reason"] == "stop")
    trained = [one for one in answers if not one["masked"] and one["advantage"]]
    assert lines[0]["trained_tokens"] == sum(one["completion_tokens"] for one in trained)


def test_the_divergence_from_the_start_is_none_at_first_and_then_grows(base: Path, place: Path) -> None:
    keys = {**LEARN, "beta": 0.05, "max_updates": 6}
    _, lines, _ = done(stage(place, base, **keys), place)
    assert lines[0]["kl"] == pytest.approx(0.0, abs=1e-6) and lines[-1]["kl"] > 1e-3


def test_rewards_get_the_own_answer_of_a_row_and_answers_can_be_scored_again(
    base: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A column of its name wins over the last turn; lines carry columns, but for one that is too wide."""
    said = [{"role": "user", "content": "say"}, {"role": "assistant", "content": "own"}]
    held = [{"messages": said, "wide": "x" * 40_000}, {"messages": said, "reference": "column", "number": 1}]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held))
    text = "def letters(completions, *, reference, id, **columns):\n    assert 'wide' in columns, columns\n"
    text += "    return [float(len(r) * 100 + i) for i, r in enumerate(reference)]\n"
    plugin(place, text)
    one = stage(place, base, **{**LEARN, "max_updates": 1, "num_generations": 2, "reward": {"letters": {}}})
    one.check([place], "stages.train")
    _, _, answers = done(one, place)
    assert {(line["reference"], line["reward"] // 100) for line in answers} == {("own", 3), ("column", 6)}
    assert {line.get("number") for line in answers} == {None, 1} and not any("wide" in line for line in answers)
    assert "completions.jsonl does not carry 'wide'" in capsys.readouterr().out


def test_sampling_that_takes_too_long_ends_it(base: Path, place: Path) -> None:
    """Within a step too, and by the sentence of the other engines."""
    told = r"sampling took longer than sampler_timeout=1e-09 s: 0 of 64 answers were done. Raise it, or take fewer"
    with pytest.raises(StageError, match=told):
        done(stage(place, base, **LEARN, sampler_timeout=1e-9), place)


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_nothing_to_learn_for_long_ends_the_training(base: Path, place: Path, beta: float) -> None:
    """To stay near the reference is nothing to learn."""
    plugin(place, "def letters(completions, *, place=''): return [0.5] * len(completions)\n")
    keys = {**LEARN, "max_idle": 3, "prompts_per_update": 6, "beta": beta}
    with pytest.raises(StageError, match=r"3 rollouts in a row had no group .* \(mean reward 0.5\)"):
        done(stage(place, base, **keys), place)
    alerts = (place / "out/alerts.jsonl").read_text()
    assert "in 100% of the last 18 groups all answers were worth the same" in alerts


def test_the_reference_holds_answers_that_rewards_tell_nothing_of(base: Path, place: Path) -> None:
    """They have a gradient where others of the rollout are compared; a rollout without any in between ends nothing."""
    text = "calls = 0\ndef letters(completions, *, number, place=''):\n    global calls\n    calls += 1\n"
    text += "    return [i % 4 * (n % 2) * (calls % 2) for i, n in enumerate(number)]\n"
    plugin(place, text)
    keys = {**LEARN, "beta": 0.1, "max_idle": 2, "max_updates": 6, "optim": {"lr": 1e-2, "schedule": "constant"}}
    _, lines, answers = done(stage(place, base, **keys), place)
    assert len(lines) == 6 and {one["advantage"] is None for one in answers if one["update"] == 1} == {True, False}
    assert all(line["trained_tokens"] == _tokens(answers, line["update"]) for line in lines)
    assert all(line["kl"] > 0 for line in lines[1:])


def _tokens(answers: list[dict[str, Any]], update: int) -> int:
    return sum(one["completion_tokens"] for one in answers if one["update"] == update)


def test_answers_without_a_score_teach_nothing(base: Path, place: Path) -> None:
    """They are left out of their group's mean; a group with one score left teaches nothing either."""
    text = "def letters(completions, *, number, place=''):\n"
    text += "    return [None if n % 2 or i % 4 == 0 else float(i % 4) for i, n in enumerate(number)]\n"
    plugin(place, text)
    _, lines, answers = done(stage(place, base, **{**LEARN, "max_updates": 1}), place)
    scored = [one for one in answers if one["reward"] is not None]
    assert 0 < len(scored) < len(answers)
    assert all((one["advantage"] is None) == (one["reward"] is None) for one in answers)
    group = [one for one in scored if one["id"] == scored[0]["id"]]
    assert sum(one["advantage"] for one in group) == pytest.approx(0.0, abs=1e-6)
    assert lines[0]["unscored"] == len(answers) - len(scored)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"num_generations": 1}, r"stages.train.num_generations: 1 answer .* Take at least 2"),
        ({"batch": {"rows": 4}}, r"stages.train.batch.rows: this stage counts prompts. Say .*prompts_per_update"),
        ({"reward": {}}, r"stages.train.reward: none"),
        ({"sampling": {"n": 4}}, r"sampling.n: 4: .* Say stages.train.num_generations"),
        ({"sampling": {"temperature": 0.0}}, r"sampling.temperature: 0 gives the same answer"),
        ({"backend": {"name": "openai"}}, r"backend.name: an endpoint cannot sample"),
        ({"server": "http://host:8000/v1"}, r"train.server: 'http://host:8000/v1' has a path. Say http://HOST:PORT"),
        (
            {"sampling": {"guided_regex": "a*"}},
            r"train.sampling.guided_regex: answers .* cannot be guided. Leave it out",
        ),
        ({"sampling": {"guided_json": {}}, "backend": {"name": "vllm"}}, r"train.sampling.guided_json: answers"),
        (
            {"sampling": {"temperature": 2.5}, "server": "http://host:8000"},
            r"train.sampling.temperature: vLLM takes 0 to 2, not 2.5",
        ),
        (
            {"sampling": {"presence_penalty": 3.0}, "backend": {"name": "vllm"}},
            r"train.sampling.presence_penalty: vLLM takes -2 to 2",
        ),
        ({"eval_temperature": 3.0, "backend": {"name": "vllm"}}, r"train.eval_temperature: vLLM takes 0 to 2"),
        ({"backend": {"name": "transformers", "engine": {"x": 1}}}, r"takes no engine arguments"),
        (
            {"backend": {"name": "transformers"}, "parallelism": {"preset": "zero3", "gpus": 2}},
            r"parallelism.preset: zero3 splits the weights",
        ),
        ({"num_generations_eval": 4}, r"num_generations_eval: 4 greedy answers are all the same. Say .*_temperature"),
        ({"epsilon": 1.5}, r"stages.train.epsilon: 1.5 does not bound"),
        ({"correction_min": 5.0}, r"stages.train.correction_min: 5 leaves nothing below correction_max, 3. Take null"),
        ({"reward": {"lettres": {}}}, r"no reward named 'lettres'. Did you mean letters"),
    ],
)
def test_mistakes_are_told_when_planning(base: Path, place: Path, keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        stage(place, base, **keys).check([place], "stages.train")


def test_prompts_over_the_limit_are_dropped_or_end_it(base: Path, place: Path) -> None:
    with pytest.raises(DataError, match=r"longer than max_length .* None of the 12 rows"):
        done(stage(place, base, max_length=5), place)


def test_a_rollout_whose_rows_all_lack_a_column_does_not_end_it(base: Path, place: Path) -> None:
    """One prompt a rollout; only the last row has the column, which the data does have."""
    held = [{"messages": [{"role": "user", "content": f"say {n}"}]} for n in range(3)]
    (place / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [*held, {**held[0], "gold": 1}]))
    plugin(place, "def letters(completions, *, gold):\n    return [float(len(set(one))) for one in completions]\n")
    keys = {"prompts_per_update": 1, "updates_per_rollout": 1, "num_iterations": 1, "max_updates": 4}
    _, _, answers = done(stage(place, base, **keys, reward={"letters": {}}), place)
    assert [line["reward"] is not None for line in answers] == ["gold" in line for line in answers]
    assert len(answers) == 16


def test_more_prompts_an_update_than_there_are_is_told(
    base: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line before it counts answers that are never sampled."""
    job = Job("train", place, place, roots=(place,), fingerprint="", progress=Silent())
    made = stage(place, base, prompts_per_update=50, updates_per_rollout=1, num_iterations=1)._schedule(12, job)
    assert len(made.parts(0)[0]) == 12
    assert "prompts_per_update: 50, and there are 12: an update has no more\n" in capsys.readouterr().out


def test_the_plan_counts_prompts_and_answers(base: Path, place: Path) -> None:
    told = list(stage(place, base, parallelism={"preset": "ddp", "gpus": 4}).summary())
    assert told[0] == "update   2 prompts x 4 generations = 8 completions, 2 on each of 4 devices"
    assert told[1] == "rollout  16 completions by one state of the weights, for 4 updates"
    assert run_sampled.KEYS["num_iterations"] == 2
    kept = {"mix": {"datasets": ["rows.jsonl"], "validation": {"rows": 5}}, "eval": {"every": 4, "max_rows": 3}}
    told = list(stage(place, base, **kept).summary())
    assert told[2] == "evaluate 5 prompts, at most 3 x 1, greedy, every 4 updates and after the last, 4 times"
    told = list(stage(place, base, **{**kept, "eval": {"every": 4, "at_start": True}}).summary())
    assert told[2].endswith("greedy, before the first update, every 4 updates and after the last, 5 times")
