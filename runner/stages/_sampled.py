"""What every stage shares that trains on answers which the model samples itself: its keys, what it refuses when
planning, and the way from prompts to weights.

Leaves the adapter or model in `model/`, the figures in `metrics.jsonl` and their picture in `reward.png`, every answer
in `completions.jsonl`, and sentences about what went wrong in `alerts.jsonl`. A kind of its own says what is learned.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Interval

from runner.core.artifact import Artifact
from runner.core.errors import ConfigError
from runner.core.job import Job
from runner.core.schema import EXECUTION, component
from runner.core.specs import Backend, Batch, Count, Model, Reward, Sampling
from runner.rollouts.sampler import UTILIZATION
from runner.stages._device import first, seed
from runner.stages._learning import Learning

if TYPE_CHECKING:
    from runner.rollouts.answers import Prompt
    from runner.rollouts.held_out import HeldOut
    from runner.rollouts.sampler import Sampler
    from runner.rollouts.schedule import Schedule
    from runner.rollouts.updates import RolloutUpdates, Rules
    from runner.training.algorithm import Algorithm
    from runner.training.pace import Extent
    from runner.training.planned import Cutting

FEW = 30  # completions of which a share that failed means something
ASLEEP = 4.0  # GiB that vLLM keeps on a GPU while it sleeps, and its start needs beside it


@component
class Sampled(Learning):
    """Keys of a training on sampled answers. max_length: tokens of a prompt; sampling.max_new_tokens: of an answer.

    prompts_per_update: of one update, over all devices. num_generations: answers to each. updates_per_rollout: updates
    whose answers are sampled together, by the weights before the first of them. num_iterations: passes over them.
    disable_dropout: so that probabilities of a token are comparable. max_idle: rollouts in a row from which nothing
    could be learned that end the training. sampler_timeout: seconds that sampling a rollout may take.
    sleep_level: of vLLM on the same GPUs while the model learns: 0 awake, 1 weights in host memory, 2 weights dropped.
    offload_model, offload_optimizer: leave the GPU while vLLM samples (weights that are split over devices stay).
    server: address of a vLLM server on other GPUs, such as http://host:8000, that samples instead
    (rollouts/_server.py); group_port: where the weights are sent.

    eval: prompts of mix.validation are answered at this rhythm and after the last update (rollouts/held_out.py).
    eval_temperature: 0 is greedy, the default: an answer then hangs on nothing but the weights, so that one a prompt
    compares checkpoints, in all engines. Models that think repeat themselves when greedy: give them the temperature
    that they are made for; all else of `sampling` holds. num_generations_eval: answers to each.
    """

    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    backend: Backend = dataclasses.field(default_factory=Backend)
    reward: dict[str, Reward] = dataclasses.field(default_factory=dict)
    prompts_per_update: Count = 8
    num_generations: Count = 8
    updates_per_rollout: Count = 1
    num_iterations: Count = 1
    disable_dropout: bool = True
    max_idle: Count = 50
    eval_temperature: Annotated[float, Ge(0)] = 0.0
    num_generations_eval: Count = 1
    sampler_timeout: Annotated[Annotated[float, Gt(0)], EXECUTION] = 1800.0
    server: Annotated[str | None, EXECUTION] = None
    group_port: Annotated[Annotated[int, Interval(ge=1, le=65535)], EXECUTION] = 51216
    sleep_level: Annotated[Literal[0, 1, 2], EXECUTION] = 1
    offload_model: Annotated[bool, EXECUTION] = False
    offload_optimizer: Annotated[bool, EXECUTION] = False
    rates: ClassVar[tuple[float, float]] = (1e-5, 1e-6)  # optim.lr when it is not given: of adapters, of full weights
    compares: ClassVar[bool] = True  # answers by their rewards
    groups: ClassVar[bool] = True  # of answers to a prompt, against each other
    losses: ClassVar[bool] = False  # whether the loss on answers kept aside tells how good the model is

    @property
    def own_share(self) -> float:
        """Share of prompts that the model answers itself; to the others the data's answers are taken."""
        return 1.0

    def prepare(self, model: Any) -> Any:
        """What the algorithm needs of the model, before it is wrapped for training."""
        return None

    def finished(self, prepared: Any, model: Any, tokenizer: Any, folder: Path, dtype: str | None) -> Path:
        """What is to be done with the model that was written; its folder."""
        return folder

    def algorithm(self, tokenizer: Any, hub: str, prepared: Any) -> "Algorithm":
        """What is learned from the answers."""
        raise NotImplementedError

    def rules(self, sampler: "Sampler", reference: Any, tokenizer: Any) -> "Rules":
        """What is made of scored answers."""
        raise NotImplementedError

    def reference(self, located: Any) -> Any:
        """The model that the divergence is measured from: loaded, "base" for the one under the adapter, or none.

        Under a new adapter the model as it starts is the base, which is there already.
        """
        if not self.measured:
            return None
        if self.produces() == "adapter" and located.adapter is None:
            return "base"
        return beside(located, self.model)

    def companions(self) -> dict[str, Model]:
        """For `plan`: the models that stand beside the one that learns, each with what it is there for."""
        again = self.measured and (self.produces() != "adapter" or self.model.adapter is not None)
        return {"the reference, the model as it starts": self.model} if again else {}

    @property
    def measured(self) -> bool:
        """Whether a divergence from the model as it starts counts."""
        return False

    def summary(self) -> Iterator[str]:
        """Lines of `plan`: prompts and answers of an update."""
        answers, devices = (
            self.prompts_per_update * self.num_generations,
            self.parallelism.gpus * self.parallelism.nodes,
        )
        shared = f", {answers / devices:g} on each of {devices} devices" if devices > 1 else ""
        prompts = f"{self.prompts_per_update} prompt{'s' if self.prompts_per_update > 1 else ''}"
        yield f"update   {prompts} x {self.num_generations} generations = {answers} completions{shared}"
        each = self.updates_per_rollout * self.num_iterations
        drawn = self.updates_per_rollout * answers
        yield f"rollout  {drawn} completions by one state of the weights, for {each} update{'s' if each > 1 else ''}"
        yield from self._evaluations()

    def _evaluations(self) -> Iterator[str]:
        aside = self.mix.validation
        if not (aside.rows or aside.fraction or aside.datasets):
            return
        what = f"{aside.rows} prompts" if aside.rows else f"{aside.fraction:.3g} of the prompts"
        if aside.datasets:
            more = "the prompts of mix.validation.datasets"
            what = f"{what} and {more}" if aside.rows or aside.fraction else more
        most = f", at most {self.eval.max_rows}" if self.eval.max_rows else ""
        how = "greedy" if self.eval_temperature == 0 else f"temperature {self.eval_temperature:g}"
        yield f"evaluate {what}{most} x {self.num_generations_eval}, {how}, {self._moments()}"

    def _moments(self) -> str:
        """When evaluations are made, and how many of them where that is known."""
        start, every = self.eval.at_start, self.eval.every
        before = ["before the first update"] if start else []
        before += [f"every {every} updates"] if every else []
        when = f"{', '.join(before)} and after the last" if before else "after the last update"
        return f"{when}, {-(-self.max_updates // every) + start} times" if every and self.max_updates else when

    def check(self, roots: Sequence[Path], key: str) -> None:
        """See `Learning.check`; refuse rewards that are not there."""
        from runner.rollouts.choose import check as check_sampler

        super().check(roots, key)
        check_sampler(
            self.backend, self.sampling, self.parallelism.preset, key, self.server, self.eval_temperature
        )  # fmt: skip
        self._check_counts(key)
        self._check_rewards(roots, key)

    def _check_counts(self, key: str) -> None:
        for name in ("rows", "packs", "tokens"):
            if getattr(self.batch, name) is not None:
                fix = f"Say {key}.prompts_per_update, and leave batch.{name} out (null)."
                raise ConfigError(f"{key}.batch.{name}", "this stage counts prompts", fix)
        if self.compares and self.groups and self.num_generations < 2:
            raise ConfigError(
                f"{key}.num_generations", f"{self.num_generations} answer to a prompt has nothing to be compared with",
                "Take at least 2.",
            )  # fmt: skip
        if self.num_generations_eval > 1 and self.eval_temperature == 0:
            raise ConfigError(
                f"{key}.num_generations_eval", f"{self.num_generations_eval} greedy answers are all the same",
                f"Say {key}.eval_temperature, above 0.",
            )  # fmt: skip

    def _check_rewards(self, roots: Sequence[Path], key: str) -> None:
        from runner.scoring.arguments import check as check_rewards
        from runner.stages._questions import WRITTEN, columns_of

        if self.compares and not self.reward:
            raise ConfigError(f"{key}.reward", "none, and nothing says which answers are good", "reward=[accuracy].")
        aside = self.mix.validation.datasets
        for entries, where in ((self.mix.datasets, "datasets"), (aside, "validation.datasets")):
            if entries:
                held = columns_of(entries, roots, self.hub, f"{key}.mix.{where}")
                columns = None if held is None else held - ({*WRITTEN} - {"messages"})
                check_rewards(self.reward, roots, f"{key}.reward", columns)

    def run(self, job: Job) -> Artifact:
        """Read the prompts, train, draw."""
        import torch

        from runner.models.dropout import without_dropout
        from runner.models.load import load_model, load_tokenizer
        from runner.models.locate import locate
        from runner.models.tune import tune
        from runner.report.curve import curve
        from runner.rollouts.choose import ready
        from runner.rollouts.draw import Drawing
        from runner.rollouts.store import FOLDER
        from runner.scoring.arguments import columns_of
        from runner.scoring.rewards import Rewards
        from runner.training.ledger import FILE
        from runner.training.precision import precision
        from runner.training.train import Work, train

        self._needed()
        ready(self.backend, self.parallelism.preset, self.server, self.sampling, self.eval_temperature)
        gpu = torch.cuda.is_available()
        located = locate(self.model, job.hub)
        tokenizer = load_tokenizer(located)
        prompts, aside = self._prompts(tokenizer, located, job)
        kind = precision(self.model, self.train_type, gpu)
        schedule = self._schedule(len(prompts), job)
        seed(job.seed)
        model = tune(load_model(located, kind.model, self.train_type), self.train_type)
        if self.disable_dropout:
            without_dropout(model)
        longest = max(len(prompt.ids) for prompt in (*prompts, *aside))
        prepared = self.prepare(model)
        algorithm = self.algorithm(tokenizer, job.hub, prepared)
        sampler = self._sampler(tokenizer, located, longest, job)
        columns = columns_of(prompt.columns for prompt in (*prompts, *aside))
        with Rewards(self.reward, job.roots, few=FEW, columns=columns) as rewards:
            rules = self.rules(sampler, self.reference(located), tokenizer)
            drawing = Drawing(prompts, sampler, rewards, self.num_generations, job.seed, self.own_share)
            updates = self._updates(drawing, schedule, algorithm, rules, job)
            held_out = self._held_out(replace(drawing, prompts=aside), algorithm, rules, job) if aside else None
            work = Work(schedule.total, self._cutting(gpu), updates, held_out, self._extent(prompts, schedule.total))
            try:
                made = train(
                    model=model, tokenizer=tokenizer, algorithm=algorithm, work=work,
                    settings=self._settings(kind.autocast), job=job, write_dtype=kind.written,
                )  # fmt: skip
            finally:
                sampler.close()
        folder = self.finished(prepared, model, tokenizer, made.folder, kind.written)
        if first():
            shutil.rmtree(job.folder / FOLDER, ignore_errors=True)  # the last rollouts: nothing goes on from them
            what = "reward" if self.reward else "loss"
            curve(job.folder / FILE, job.folder / f"{what}.png", f"{job.run.name}: {job.name}", what)
        metrics = {**_rewards(job.folder / FILE), **made.metrics}
        return Artifact(self.produces(), str(folder), base=located.name, metrics=metrics)

    def _prompts(self, tokenizer: Any, located: Any, job: Job) -> "tuple[list[Prompt], list[Prompt]]":
        from runner.rollouts.store import FILE, left_out
        from runner.stages._prompts import prompts, room

        made, aside = prompts(
            tokenizer, self.mix, self.template, limit=self.max_length,
            room=room(located, self.sampling.max_new_tokens), seed=job.seed,
            hub=job.hub, places=job.roots, max_dropped=self.data.max_dropped, folder=job.folder if first() else None,
            answered=self.own_share < 1.0,
        )  # fmt: skip
        self._begin(job, bool(aside))
        wide = dict.fromkeys(name for one in (*made, *aside) for name in left_out(one)) if first() else ()
        if wide:
            told = ", ".join(map(repr, wide))
            print(f"{FILE} does not carry {told}: too wide, or no JSON; rewards get it all the same", flush=True)
        return made, aside[: self.eval.max_rows]

    def _schedule(self, count: int, job: Job) -> "Schedule":
        from runner.rollouts.schedule import Schedule

        made = Schedule(
            count, self.prompts_per_update, self.updates_per_rollout, self.num_iterations, job.seed, self.epochs,
            self.max_updates,
        )  # fmt: skip
        if first():
            print(f"{made.total} updates from {count} prompts; {', '.join(self.summary())}", flush=True)
            if count < self.prompts_per_update:
                told = f"prompts_per_update: {self.prompts_per_update}, and there are {count}: an update has no more"
                print(told, flush=True)
        return made

    def _sampler(self, tokenizer: Any, located: Any, longest: int, job: Job) -> "Sampler":
        from runner.rollouts.choose import choose
        from runner.rollouts.sampler import Engine

        keys = Engine(
            self.model, self.backend, self.sampling, self.template.response_prefix, self.sleep_level,
            self.offload_model, self.offload_optimizer, self.sampler_timeout, longest, self.server, self.group_port,
        )  # fmt: skip
        return choose(keys, tokenizer, located, job.seed)

    def _cutting(self, gpu: bool) -> "Cutting":
        from runner.models.attention import choose
        from runner.training.budget import tokens_per_device
        from runner.training.planned import Cutting

        packed = choose(self.model.attention, "cuda" if gpu else "cpu", self.model.dtype).packed
        return Cutting(tokens_per_device(self.batch, gpu), packed)

    def _extent(self, prompts: "Sequence[Prompt]", updates: int) -> "Extent":
        """What there is to do. How long answers will be nobody knows: half of what they may be is reckoned for all the
        work, the whole of it for a micro-batch.
        """
        from runner.training.pace import Extent

        lengths, answer = [len(prompt.ids) for prompt in prompts], self.sampling.max_new_tokens
        typical = sum(lengths) // len(lengths) + (answer + 1) // 2
        rows = self.prompts_per_update * self.num_generations
        update = rows * (sum(lengths) // len(lengths) + answer)
        return Extent(updates * rows * typical, max(lengths) + answer, typical, update)

    def _updates(self, drawing: Any, schedule: Any, algorithm: Any, rules: Any, job: Job) -> Any:
        """Makes the updates of a device once it is known which."""
        from runner.rollouts.alerts import Alerts
        from runner.rollouts.say import say
        from runner.rollouts.store import Store
        from runner.rollouts.updates import RolloutUpdates

        def updates(cutting: "Cutting") -> "RolloutUpdates":
            alerts = Alerts(self.sampling.max_new_tokens, say(job.folder), self.compares and self.groups)
            return RolloutUpdates(
                schedule, drawing, rules, algorithm, cutting, Store(job.folder, job.fingerprint), alerts,
                first(),
            )  # fmt: skip

        return updates

    def _held_out(self, drawing: Any, algorithm: Any, rules: Any, job: Job) -> Any:
        """Makes the evaluation of a device."""
        from runner.rollouts.choose import neutral
        from runner.rollouts.held_out import HeldOut

        sampling = replace(neutral(self.sampling), temperature=self.eval_temperature, logprobs=False)
        asking = replace(drawing, num_generations=self.num_generations_eval, own_share=1.0, sampling=sampling)

        def held_out(cutting: "Cutting") -> "HeldOut":
            chosen = replace(cutting, budget=self.eval.batch_tokens or cutting.budget)
            return HeldOut(asking, job.folder, algorithm, chosen, losses=self.losses, told=rules.told, first=first())

        return held_out

    def _batch(self) -> Batch:
        """What an engine on the same GPU holds while the model learns is not there for its micro-batches."""
        import torch

        from runner.backends import choose

        if self.server or not torch.cuda.is_available() or choose(self.backend.name) != "vllm":
            return self.batch
        total = torch.cuda.mem_get_info()[1] / 2**30
        share = float(self.backend.engine.get("gpu_memory_utilization", UTILIZATION))
        left = total - (ASLEEP if self.sleep_level else share * total)
        most = left if self.batch.memory_gib is None else min(left, self.batch.memory_gib)
        return replace(self.batch, memory_gib=max(most, 1.0))


def _rewards(file: Path) -> dict[str, Any]:
    """The mean reward of the last line of metrics.jsonl and of the first, where there are rewards."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    told = [line["reward"] for line in lines if line.get("reward") is not None]
    return {"reward": round(told[-1], 6), "first_reward": round(told[0], 6)} if told else {}


def beside(located: Any, model: Model) -> Any:
    """A model that does not learn, on this process's GPU where there is one."""
    import torch

    from runner.models.load import load_model

    made = load_model(located, model).requires_grad_(False)
    return made.cuda() if torch.cuda.is_available() else made  # several processes get theirs on the CPU
