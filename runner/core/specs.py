"""The config layers as dataclasses: every key of a recipe, its type, its range and its default, in one place.

Stages take these layers as fields of the same names (`model`, `mix`, `optim`, ...) and so inherit them.
A key marked EXECUTION changes how a run is executed and never what it makes.
"""

from dataclasses import field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, MinLen

from runner.core.schema import EXECUTION, component

Count = Annotated[int, Ge(1)]
Text = Annotated[str, MinLen(1)]
Preset = Literal["single", "ddp", "zero1", "zero2", "zero3", "zero3_offload", "fsdp2"]
Share = Annotated[float, Interval(ge=0.0, le=1.0)]
Seed = Annotated[int, Interval(ge=0, le=2**31 - 1)]  # what every library takes
STAGE = "stage:"  # before a stage's name: what that stage makes


@component
class Model:
    """Which model: a hub id, a folder, a run, a stage, a checkpoint, `stage:NAME`, or `package:MODULE/FILE`.

    compile: whether its layers are compiled for training on a GPU; auto: where the work is long enough to pay for it.
    """

    id: Text
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attention: Literal[
        "auto", "eager", "sdpa", "varlen", "flash_attention_2", "flash_attention_3", "flash_attention_4"
    ] = "auto"
    compile: Annotated[bool | Literal["auto"], EXECUTION] = "auto"
    adapter: Text | None = None
    trust_remote_code: bool = False


@component
class Dataset:
    """One source of rows. The string form `id:subset#take` says the same in one line."""

    dataset: str
    subset: str | None = None
    split: str | None = None
    take: Count | None = None
    weight: Annotated[float, Gt(0)] | None = None
    columns: dict[str, str] = field(default_factory=dict)
    format: str | None = None
    filter: str | None = None
    loss_scale: list[str | dict[str, Any]] | None = None
    turns: Literal["faithful", "all", "last"] | None = None


@component
class Subset:
    """A way to read a known dataset: text put around its columns, and the folder of its files if it has its own."""

    folder: str | None = None
    prepend: dict[str, str] = field(default_factory=dict)
    append: dict[str, str] = field(default_factory=dict)
    remove_prefix: dict[str, str] = field(default_factory=dict)


@component
class KnownDataset:
    """conf/dataset/NAME.yaml: where the hubs have a dataset and how it is read, from there or from a folder like it."""

    modelscope: str | None = None
    huggingface: str | None = None
    split: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    format: str | None = None
    subsets: dict[str, Subset] = field(default_factory=lambda: {"default": Subset()})


@component
class Validation:
    """Rows kept aside for evaluation: a fraction or a number of the mix, or datasets of their own."""

    fraction: Annotated[float, Interval(ge=0.0, lt=1.0)] = 0.0
    rows: Annotated[int, Ge(0)] = 0
    datasets: list[str | Dataset] = field(default_factory=list)


Variables = dict[str, str | list[str] | dict[str, str]]


@component
class Mix:
    """The blend of datasets, and the variables that fill `{{NAME}}` in their text.

    duplicates: whether a row that means the same as an earlier one, or as one kept aside for validation, is trained on.
    """

    datasets: list[str | Dataset] = field(default_factory=list)
    validation: Validation = field(default_factory=Validation)
    interleave: bool = False
    duplicates: Literal["keep", "drop"] = "keep"
    variables: Variables = field(default_factory=dict)


@component
class Template:
    """How conversations become text, around the chat template of the model."""

    thinking: Literal["auto", "on", "off"] = "auto"
    response_prefix: str = ""
    empty_think: Literal["add", "keep", "strip"] = "keep"
    system: str | None = None
    turns: Literal["faithful", "all", "last"] = "faithful"


@component
class Lora:
    """Low-rank adapters, Hu et al. 2021 (arXiv 2106.09685); names follow peft."""

    rank: Count = 8
    alpha: Annotated[float, Gt(0)] = 32
    dropout: Annotated[float, Interval(ge=0.0, lt=1.0)] = 0.05
    targets: str | list[str] = "all-linear"
    dora: bool = False
    rslora: bool = False
    modules_to_save: list[str] = field(default_factory=list)


@component
class TrainType:
    """Which weights learn. `patterns`: regular expressions of parameter names that learn under `freeze`."""

    kind: Literal["lora", "full", "freeze", "qlora"] = "lora"
    lora: Lora = field(default_factory=Lora)
    patterns: list[str] = field(default_factory=list)


@component
class Batch:
    """What makes one update, over all devices: rows, or packs of max_length, or tokens. Rows when none is said.

    tokens_per_device: how many tokens a micro-batch holds; it never changes the gradient. checkpointing: what of the
    activations is kept for the backward pass: all (off), what is dear to compute (selective, compiled layers only), or
    what goes into each layer (full). memory_gib: use no more of a GPU than that.
    """

    rows: Count | None = None
    packs: Count | None = None
    tokens: Count | None = None
    tokens_per_device: Annotated[Literal["auto"] | Count, EXECUTION] = "auto"
    checkpointing: Annotated[Literal["auto", "off", "selective", "full"], EXECUTION] = "auto"
    memory_gib: Annotated[Annotated[float, Gt(0)] | None, EXECUTION] = None

    def __post_init__(self) -> None:
        if sum(size is not None for size in (self.rows, self.packs, self.tokens)) > 1:
            raise ValueError("should say only one of rows, packs and tokens (the others null)")


@component
class Optim:
    """Optimizer and schedule. lr: 1e-4 for adapters and 1e-5 for full weights when not given, a tenth of that where
    preferences or rewards are learned.

    warmup: below 1 a share of all updates, from 1 on a number of updates.
    """

    name: Literal["adamw", "adamw_8bit", "adafactor", "sgd"] = "adamw"
    lr: Annotated[float, Gt(0)] | None = None
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    min_lr: Annotated[float, Ge(0)] = 0.0
    warmup: Annotated[float, Ge(0)] = 0.0
    weight_decay: Annotated[float, Ge(0)] = 0.1
    betas: list[Annotated[float, Interval(ge=0.0, lt=1.0)]] = field(default_factory=lambda: [0.9, 0.95])
    max_grad_norm: Annotated[float, Ge(0)] = 1.0


@component
class Eval:
    """Evaluation while training: every so many updates, on at most `max_rows` rows.

    at_start: before the first update too, as update 0. It is told, and never the best: no model of that moment is kept.
    """

    every: Count | None = None
    at_start: Annotated[bool, EXECUTION] = False
    max_rows: Count | None = None
    batch_tokens: Count | None = None


@component
class Save:
    """Checkpoints: every so many updates, at most `keep` of them, the best one among them."""

    every: Annotated[Count | None, EXECUTION] = None
    keep: Annotated[Count, EXECUTION] = 2
    weights_only: Annotated[bool, EXECUTION] = False


@component
class Log:
    """A line of metrics every so many updates; trackers beside metrics.jsonl. profile: the number of an update of which
    is told where its time goes.
    """

    every: Annotated[Count, EXECUTION] = 5
    trackers: Annotated[list[Literal["tensorboard", "trackio", "mlflow", "wandb", "swanlab"]], EXECUTION] = field(
        default_factory=list
    )
    profile: Annotated[Count | None, EXECUTION] = None


@component
class Data:
    """How data is prepared: loader workers, processes that encode, and how many rows may be dropped unsaid."""

    workers: Annotated[Annotated[int, Ge(0)], EXECUTION] = 0
    processes: Annotated[Count, EXECUTION] = 1
    max_dropped: Share = 0.05


@component
class Sampling:
    """How answers are drawn. What is None follows the model's generation config. temperature 0 is greedy.

    guided_json: a JSON schema that the answer obeys; guided_regex: a pattern that it matches (vLLM and endpoints).
    logprobs: rows carry their tokens and the log-probability of each: of vLLM and endpoints the model's own, of
    transformers at the temperature and after penalties.
    """

    max_new_tokens: Count = 512
    temperature: Annotated[float, Ge(0)] | None = None
    top_p: Annotated[float, Interval(gt=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Ge(-1)] | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Gt(0)] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: list[Text] = field(default_factory=list)
    seed: Seed | None = None
    n: Count = 1
    logprobs: bool = False
    guided_json: dict[str, Any] | None = None
    guided_regex: str | None = None

    def __post_init__(self) -> None:
        if self.guided_json is not None and self.guided_regex is not None:
            raise ValueError("should say only one of guided_json and guided_regex (the other null)")
        if self.n > 1 and self.temperature == 0:
            raise ValueError("should have a temperature above 0 for several samples: greedy ones are all the same")


@component
class Backend:
    """Which engine answers. `engine` goes to it as it is."""

    name: Literal["auto", "transformers", "vllm", "openai"] = "auto"
    batch_tokens: Annotated[Count, EXECUTION] = 4096
    engine: dict[str, Any] = field(default_factory=dict)


@component
class Parallelism:
    """How the work is spread over devices. Never changes what is learned.

    preset: of trainings; engines that answer share the questions out without one. gpus: of each node. master, port,
    node_rank: where several nodes meet and which one this is, where the cluster's environment does not say it.
    timeout: seconds that a device waits for the others before it says that one hangs.
    """

    preset: Annotated[Preset, EXECUTION] = "single"
    gpus: Annotated[Count, EXECUTION] = 1
    nodes: Annotated[Count, EXECUTION] = 1
    master: Annotated[str | None, EXECUTION] = None
    port: Annotated[Annotated[int, Interval(ge=1, le=65535)] | None, EXECUTION] = None
    node_rank: Annotated[Annotated[int, Ge(0)] | None, EXECUTION] = None
    timeout: Annotated[Count, EXECUTION] = 1800


@component
class Reward:
    """One reward of a run: its weight in the sum, the keywords of its function, the seconds that a call may take."""

    weight: float = 1.0
    params: dict[str, Any] = field(default_factory=dict)
    time_limit: Annotated[Annotated[float, Gt(0)], EXECUTION] = 60.0


Rules = list[str | dict[str, Any]] | dict[str, dict[str, Any] | None]


@component
class Recipe:
    """The whole config. `stages` is the run graph: each entry has a `kind` and that kind's keys.

    on_change: what to do with finished work of other settings. on_failure: whether a sweep goes on after a failed job.
    objective: `stage.metric`, what a sweep is about.
    """

    name: Text
    seed: Seed = 42
    output_dir: Annotated[Text, EXECUTION] = "outputs/${name}"
    hub: Literal["modelscope", "huggingface"] = "modelscope"
    plugins_path: Annotated[str | None, EXECUTION] = None
    on_change: Annotated[Literal["refuse", "replace", "new"], EXECUTION] = "refuse"
    on_failure: Annotated[Literal["continue", "stop"], EXECUTION] = "continue"
    objective: Annotated[str | None, EXECUTION] = None
    model: Model
    mix: Mix = field(default_factory=Mix)
    max_length: Count | None = None
    overlong: Literal["drop", "truncate_left", "truncate_right", "split"] = "drop"
    template: Template = field(default_factory=Template)
    train_type: TrainType = field(default_factory=TrainType)
    batch: Batch = field(default_factory=Batch)
    epochs: Annotated[float, Gt(0)] = 1.0
    max_updates: Count | None = None
    optim: Optim = field(default_factory=Optim)
    eval: Eval = field(default_factory=Eval)
    save: Save = field(default_factory=Save)
    log: Log = field(default_factory=Log)
    data: Data = field(default_factory=Data)
    sampling: Sampling = field(default_factory=Sampling)
    backend: Backend = field(default_factory=Backend)
    parallelism: Parallelism = field(default_factory=Parallelism)
    reward: dict[str, Reward] = field(default_factory=dict)
    loss_scale: Rules = field(default_factory=lambda: list[str | dict[str, Any]](["default"]))
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
