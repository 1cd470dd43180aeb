"""One table of wrong command lines, one of wrong recipes: exit code 2, and the exact sentence with its place."""

import pytest

HEAD = "# x\nname: mine\nmodel: a/b\n"  # a stage or a mistake follows on line 4
STAGE = "stages: {a: {kind: echo}}\n"

WORDS = [
    ("", "name: missing. Choose a recipe (+recipe=NAME), or give it: name=..."),
    ("recipe=tow", "command line: recipe: no recipe named 'tow'. Did you mean two?"),
    ("recipe=two optim.lrr=1", "command line: optim.lrr: no such key (value '1'). Did you mean optim.lr?"),
    ("recipe=two lr=1", "command line: lr: no such key (value '1'). It exists as optim.lr."),
    ("recipe=two learning_rate=1e-4", "command line: learning_rate: no such key (value '1e-4'). It is optim.lr here."),
    ("recipe=two stages.first.lora_rank=4", "command line: stages.first.lora_rank: no such key (value 4)."),
    ("recipe=two deepspeed=zero3", "command line: deepspeed: no such key (value 'zero3'). parallelism=zero3 is it here "
                                   "(zero1, zero2, zero3_offload)."),
    ("recipe=two temperature=0", "command line: temperature: no such key (value '0'). It exists as "
                                 "sampling.temperature."),
    ("recipe=two kl_coef=0.1", "command line: kl_coef: no such key (value '0.1'). A stage says it: stages.NAME.kl_coef "
                               "(kinds: ppo)."),
    ("recipe=two teacher=a/b", "command line: teacher.id: no such key (value 'a/b'). A stage says it: "
                               "stages.NAME.teacher (kinds: gkd)."),
    ("recipe=two --learning_rate 1e-4", "command line: no flag --learning_rate. It is optim.lr here."),
    ("recipe=two --model=x", "command line: no flag --model. Keys have no dashes: model=..."),
    ("two", "command line: 'two' is no key=value. A recipe is named by +recipe=two."),
    ("sft", "command line: 'sft' is no key=value. What to do is said by a recipe, +recipe=NAME"),
    ("recipe=recipes/tow.yaml", "command line: recipe: no recipe named 'tow'. Did you mean two?"),
    ("recipe=two model=nope", "command line: model: no model named 'nope'."),
    ("recipe=two optim.lr=abc", "command line: optim.lr: should be a number, not 'abc'."),
    ("recipe=two optim.lr=", "command line: optim.lr: empty. Give it a value, or leave the key out."),
    ("recipe=two name=", "command line: name: empty. Give it a value, or leave the key out."),
    ("recipe=two optim.lr=-1", "command line: optim.lr: should be greater than 0, not -1."),
    ("recipe=two seed=1.5", "command line: seed: should be a whole number, not 1.5."),
    ("recipe=two seed=null", "command line: seed: should be a whole number, not null."),
    ("recipe=two optim=3", "command line: optim: should be a mapping, not 3. Its keys: name, lr, schedule, "),
    ("recipe=two mix.datasets=a.jsonl", "command line: mix.datasets: should be a list, not 'a.jsonl'. Write "
                                        "[a.jsonl]."),
    ("recipe=two optim=[3]", "command line: optim: should be a mapping, not a list."),
    ("recipe=two mix.datasets={a:1}", "command line: mix.datasets: should be a list, not a mapping."),
    ("recipe=two mix.datasets.7=a", "command line: mix.datasets.7: no such place in that list."),
    ("recipe=two optim..lr=3", "command line: optim..lr=3: cannot be read. A text with marks of its own stands in"),
    ("recipe=two name='a", "command line: name='a: cannot be read. A text with marks of its own stands in quotes"),
    ("recipe=two ~optim.lr=7", "command line: Could not delete from config. The value of 'optim.lr' is "),
    ("recipe=two parallelism=2", "command line: parallelism: no parallelism named '2'. Choices: ddp, fsdp2, single,"),
    ("recipe=two reward=[short,5]", "command line: reward: no reward named '5'. Choices: accuracy,"),
    ("recipe=two train_type=null", "command line: train_type: no train type named 'null'. Did you mean full?"),
    ("recipe=far/away.yaml", "command line: recipe: no recipe named 'far/away'."),
    ("recipe=5", "command line: recipe: no recipe named '5'. Choices: "),
    ("recipe=two hydra/sweeper=optuna", "command line: hydra/sweeper: no hydra/sweeper named 'optuna'. Choices: basic. "
                                        "A package of Hydra's may bring it: pip install hydra-optuna-sweeper."),
    ("recipe=two hydra/launcher=5", "command line: an option of a group is chosen by its name, which is text."),
    ("-m recipe=two,two", "name: missing. Choose a recipe (+recipe=NAME); a sweep over several needs name=..."),
    ("recipe=two optim.name=adam", "command line: optim.name: should be 'adamw', 'adamw_8bit', 'adafactor' or 'sgd', "
                                   "not 'adam'. Did you mean adamw?"),
    ("recipe=two optim.betas=[0.9,2]",
     "command line: optim.betas=[0.9,2]: optim.betas.1: should be less than 1, not 2."),
    ("recipe=two optim.lr=2 stages.first.optim.warmup=-1",
     "command line: stages.first.optim.warmup: should be at least 0, not -1."),
    ("recipe=two mix.variables={A:1}",
     "command line: mix.variables={A:1}: mix.variables.A: should be text or a list or a mapping, not 1."),
    ("recipe=two stages.a.kind=sft mix.datasets=[none.jsonl]",
     "command line: mix.datasets=[none.jsonl]: mix.datasets.0 (stage a): 'none.jsonl' is no file or folder."),
    ("recipe=two stages.a.kind=sft mix.datasets=[a/b] stages.a.model=/none",
     "command line: stages.a.model=/none: stages.a.model.id: no folder '/none' here."),
    ("recipe=two +optim.lr=1", "command line: optim.lr: is there already. Write optim.lr=1 without the plus sign."),
    ("recipe=two ~optim.fo", "command line: ~optim.fo: no such key."),
    ("recipe=two ~stages.first",
     "recipes/two.yaml:6: stages.second.model.id: no stage named 'first'. Choices: second."),
    ("recipe=two train_type=lorra", "command line: train_type: no train type named 'lorra'. Did you mean lora?"),
    ("recipe=two train_type=", "command line: train_type: no train type named ''. Choices: freeze, full, lora, qlora."),
    ("recipe=two reward=shrt", "command line: reward: no reward named 'shrt'. Did you mean short?"),
    ("recipe=two reward=[shrt]", "command line: reward: no reward named 'shrt'. Did you mean short?"),
    ("recipe=two reward=short reward.short.wait=3",
     "command line: reward.short.wait: no such key (value 3). Did you mean reward.short.weight?"),
    ("recipe=two reward=short reward.short.params.limt=3",
     "command line: reward.short.params.limt: short takes no such parameter (value 3). Did you mean limit?"),
    ("recipe=two optim.lr=1,2", "command line: optim.lr: several values (1,2). To sweep over it add -m; a list is "
                                "optim.lr=[1,2]; a text with a comma is optim.lr='1,2' in quotes."),
    ("recipe=two stages.first.wordz=1",
     "command line: stages.first.wordz: no such key (value 1). Did you mean stages.first.words?"),
    ("recipe=two stages.first.kind=eco", "command line: stages.first.kind: no stage named 'eco'. Did you mean echo?"),
    ("recipe=two stages.first.model=stage:second",
     "stages: a cycle: second -> first -> second. A stage cannot need itself."),
    ("recipe=two model@teacher=x",
     "command line: model@teacher: no such group in that place. To add it: +model@teacher=x."),
    ("recipe=two recipe=two",
     "command line: recipe: said more than once. Several together are recipe=[a,b]."),
    ("recipe=two foo", "command line: 'foo' is no key=value."),
    ("pln recipe=two", "command line: 'pln' is no key=value. Did you mean plan?"),
    ("recipe=two =3", "command line: '=3' is no key=value."),
    ("recipe=two --bogus", "command line: no flag --bogus."),
    ("recipe=two --multrun", "command line: no flag --multrun. Did you mean --multirun?"),
    ("recipe=two --cfg job", "command line: plan takes no flag --cfg."),
    ("recipe=two --config-dir nope",
     "--config-dir: no folder 'nope'. Give the folder that holds conf/ or recipes/."),
    ("recipe=two --config-name confg", "--config-name: no config named 'confg'. Did you mean config?"),
    ("recipe=two name=${oc.env:NOPE}", "command line: name: the environment variable NOPE is not set. Export it, or "
                                       "write "
                                       "${oc.env:NOPE,DEFAULT}."),
    ("recipe=two name=${nme}", "command line: name: leads to 'nme', which is no key. Did you mean name?"),
    ("recipe=two objective=second", "command line: objective: should be STAGE.METRIC, not 'second'."),
    ("recipe=two objective=scond.x", "command line: objective: no stage named 'scond'. Did you mean second?"),
    ("recipe=two mix.datasets=[{dataset:a,tak:3}]", "command line: mix.datasets=[{dataset:a,tak:3}]: "
                                                    "mix.datasets.0.tak: no such key (value 3). Did you mean "
                                                    "mix.datasets.0.take?"),
]  # fmt: skip

BODIES = [
    ("", "recipes/mine.yaml: is empty. A recipe has a name, a model and stages."),
    ("# a comment alone\n", "recipes/mine.yaml: is empty."),
    ("words alone\n", "recipes/mine.yaml: should hold keys and values, not a text alone."),
    (
        "defaults: [/recipe: mine]\nname: mine\n",
        "defaults: lists of recipes or configs that name each other in a circle.",
    ),
    (HEAD, "stages: the recipe has none. Choose a recipe: +recipe=NAME (`runner list recipes`)."),
    (
        "# x\nname: mine\nmodel: {dtype: float32}\nstages: {a: {kind: echo}}",
        "model.id: missing. Name a model: model=FOLDER or a hub id (`runner list models`).",
    ),
    (HEAD + "stages: {a: {kinds: echo}}", "recipes/mine.yaml:4: stages.a: a stage without a kind."),
    (HEAD + "stages: {a: echo}", "recipes/mine.yaml:4: stages.a: should be a mapping with a kind, not 'echo'."),
    (HEAD + "stages: {a: }", "recipes/mine.yaml:4: stages.a: should be a mapping with a kind, not null."),
    (HEAD + "1: 2\n" + STAGE, "recipes/mine.yaml:4: 1: no such key (value 2)."),
    (HEAD + "optim:\n\tlr: 1\n" + STAGE, "recipes/mine.yaml:5: is not YAML: a tab, where YAML takes spaces."),
    (
        HEAD + 'output_dir: "a\\0b"\n' + STAGE,
        "recipes/mine.yaml:4: output_dir: 'a\\x00b' cannot be the name of a folder.",
    ),
    (HEAD + "stages: [a]", "recipes/mine.yaml:4: stages: should be a mapping, not a list."),
    (HEAD + "stages: {a/b: {kind: echo}}", "recipes/mine.yaml:4: stages: 'a/b' cannot be the name of a stage."),
    (HEAD + "stages: {..: {kind: echo}}", "recipes/mine.yaml:4: stages: '..' cannot be the name of a stage."),
    (HEAD + "stages: {plan.json: {kind: echo}}", "stages: 'plan.json' cannot be the name of a stage."),
    (HEAD + "optm: {lr: 1}\n" + STAGE, "recipes/mine.yaml:4: optm: no such key (value {'lr': 1}). Did you mean optim?"),
    (HEAD + "teacher: b\n" + STAGE, "recipes/mine.yaml:4: teacher: no such key (value {'id': 'b'}). A stage says it: "),
    (HEAD + "optim:\n  lr: 1\n  lr: 2\n" + STAGE, "recipes/mine.yaml:6: is not YAML: found duplicate key lr."),
    (HEAD + "optim: {lr: 1e-4\n" + STAGE, "recipes/mine.yaml:5: is not YAML: expected ',' or '}', but got ':'."),
    ("# x\n- a\n", "recipes/mine.yaml: should hold keys and values, not a list."),
    (
        HEAD + "optim:\n  lr: 1e-4\n  lrr: 3\n" + STAGE,
        "recipes/mine.yaml:6: optim.lrr: no such key (value 3). Did you mean optim.lr?",
    ),
    (
        HEAD + "stages:\n  a:\n    kind: echo\n    lr: 1\n",
        "recipes/mine.yaml:7: stages.a.lr: no such key (value 1). It exists as stages.a.optim.lr.",
    ),
    (
        HEAD + "stages: {a: {kind: echo, model: 'stage:b'}, b: {kind: tally}}",
        "recipes/mine.yaml:4: stages.a.model.id: stage 'b' makes scores, and this takes a model or an adapter.",
    ),
    (
        HEAD + "stages: {train: {kind: echo}, b: {kind: tally, model: 'stage:trian'}}",
        "recipes/mine.yaml:4: stages.b.model.id: no stage named 'trian'. Did you mean train?",
    ),
    (
        "# x\ndefaults:\n  - override /train_type: ful\nname: mine\nmodel: a/b\n" + STAGE,
        "recipes/mine.yaml:3: train_type: no train type named 'ful'. Did you mean full?",
    ),
    (
        "# x\ndefaults:\n  - override /modl: x\nname: mine\n" + STAGE,
        "recipes/mine.yaml:3: modl: no such group to override. Did you mean model?",
    ),
    ("# x\ndefaults: 3\nname: mine\n" + STAGE, "recipes/mine.yaml: defaults: should be a list."),
    (HEAD + "seed: ${sed}\n" + STAGE, "recipes/mine.yaml:4: seed: leads to 'sed', which is no key. Did you mean seed?"),
    (
        HEAD + "seed: ${oc.env:SEED_NOT_SET}\n" + STAGE,
        "recipes/mine.yaml:4: seed: the environment variable SEED_NOT_SET is not set.",
    ),
    (HEAD + "name2: ${a\n" + STAGE, "recipes/mine.yaml:4: name2: an interpolation that cannot be read:"),
    (HEAD + "epochs: three\n" + STAGE, "recipes/mine.yaml:4: epochs: should be a number, not 'three'."),
    (HEAD + "epochs: 0\n" + STAGE, "recipes/mine.yaml:4: epochs: should be greater than 0, not 0."),
    (
        HEAD + "mix: {datasets: a.jsonl}\n" + STAGE,
        "recipes/mine.yaml:4: mix.datasets: should be a list, not 'a.jsonl'.",
    ),
    (
        HEAD + "mix:\n  datasets:\n    - {datset: a}\n" + STAGE,
        "recipes/mine.yaml:6: mix.datasets.0.datset: no such key (value 'a'). Did you mean mix.datasets.0.dataset?",
    ),
    (
        HEAD + "reward: [shrt]\n" + STAGE,
        "recipes/mine.yaml:4: reward.shrt: no reward named 'shrt'. Did you mean short?",
    ),
    (
        HEAD + "train_type: qlora\n" + STAGE,
        "recipes/mine.yaml:4: train_type: 'qlora' is a choice, and not made here. "
        "Write under `defaults:` `- override /train_type: qlora`.",
    ),
    ("# x\nname: mine\nmodel: smollm2\n" + STAGE, "Write under `defaults:` `- override /model: smollm2`."),
    (HEAD + "reward: short\n" + STAGE, "Write under `defaults:` `- override /reward: short`."),
    (HEAD + "loss_scale: [lst]\n" + STAGE, "recipes/mine.yaml:4: loss_scale: no loss scale named 'lst'."),
    (
        HEAD + "batch: {rows: 1, packs: 2}\n" + STAGE,
        "recipes/mine.yaml:4: batch: should say only one of rows, packs and tokens (the others null)",
    ),
    (
        HEAD + "hydra: {sweep: {dirr: x}}\n" + STAGE,
        "recipes/mine.yaml: hydra.sweep.dirr: Key 'dirr' not in 'SweepDir'.",
    ),
    (HEAD.replace("name: mine", "name: \udcff"), "recipes/mine.yaml: is not UTF-8 text (byte 10)."),
]


@pytest.fixture
def user(project):
    """The project with a reward of its own."""
    project.write("plugins/rewards/short.py", "def short(completions: list[str], *, limit: int = 3): ...\n")
    return project


@pytest.mark.parametrize(("words", "sentence"), WORDS, ids=[words for words, _ in WORDS])
def test_wrong_words(user, words: str, sentence: str) -> None:
    """A row a command line; nothing is written."""
    parts = words.split()
    verb = [] if parts[:1] == ["pln"] else ["plan"]
    code, out, told = user.call(*verb, *parts)
    assert (code, out) == (2, "")
    assert told.startswith(sentence)
    assert told.count("\n") == 1
    assert not (user.root / "outputs").exists()


@pytest.mark.parametrize(("body", "sentence"), BODIES, ids=[sentence for _, sentence in BODIES])
def test_wrong_recipes(user, body: str, sentence: str) -> None:
    """A row a recipe: file, line, key, value, near miss."""
    (user.root / "recipes" / "mine.yaml").write_bytes(body.encode("utf-8", "surrogateescape"))
    code, out, told = user.call("plan", "recipe=mine")
    assert (code, out) == (2, "")
    assert sentence in told
    assert told.count("\n") == 1


def test_a_folder_called_like_a_key_is_no_group(user) -> None:
    """`seed=5` beside a folder `seed` was taken for a choice in it: a traceback."""
    user.write("seed/readme.txt", "")
    user.write("recipes/2024.yaml", HEAD + STAGE)
    for recipe in ("2024", "[2024]"):
        code, out, told = user.call("plan", f"recipe={recipe}", "seed=5")
        assert (code, told) == (0, "") and out.startswith("mine ")


def test_a_word_that_is_no_text_is_told(user) -> None:
    """A file name in Latin 1, as Python hands it over."""
    code, _, told = user.call("plan", "recipe=two", "mix.datasets=[caf\udce9.jsonl]")
    assert (code, told) == (2, "command line: mix.datasets=[caf\\udce9.jsonl] is not UTF-8 text. Rename the file, or "
                               "LC_ALL=C.UTF-8.\n")  # fmt: skip


def test_a_typo_in_a_config_of_the_user_is_found(user) -> None:
    """Group files are checked like recipes."""
    user.write("conf/train_type/wide.yaml", "# wide\nkind: lora\nlora:\n  rnk: 64\n")
    code, _, told = user.call("plan", "recipe=two", "train_type=wide")
    assert (code, told.strip()) == (
        2,
        "conf/train_type/wide.yaml:4: train_type.lora.rnk: no such key (value 64). Did you mean train_type.lora.rank?",
    )


def test_a_run_makes_the_same_sentence_as_a_plan(user) -> None:
    """Without a verb the mistake is told the same way, and no folder is made."""
    code, _, told = user.call("recipe=two", "optim.lr=abc")
    assert (code, told) == (2, "command line: optim.lr: should be a number, not 'abc'.\n")
    assert not (user.root / "outputs").exists()


def test_options_of_a_layer_that_has_none_of_ours(user) -> None:
    """conf/optim is a user's: optim=fast was no such key, with the advice to write optim."""
    user.write("conf/optim/fast.yaml", "# fast\nlr: 1\n")
    assert user.call("plan", "recipe=two", "+optim=fast")[0] == 0
    for word, fix in (("fast", "Write +optim=fast."), ("fats", "Did you mean fast?")):
        told = user.call("plan", "recipe=two", f"optim={word}")[2]
        assert told == f"command line: optim: no option of it is chosen before (value {word!r}). {fix}\n"
    body = "# x\ndefaults:\n  - {}\n  - {}\nname: mine\nmodel: a/b\nstages: {{a: {{kind: echo}}}}\n"
    user.write("recipes/mine.yaml", body.format("override /train_type: full", "override /optim: fast"))
    assert user.call("plan", "recipe=mine")[2] == (
        "recipes/mine.yaml:4: optim: no option of it is chosen before. "
        "Write `- /optim: NAME`, above all that override.\n"
    )
    user.write("recipes/mine.yaml", body.format("override /train_type: full", "/optim: fast"))
    assert user.call("plan", "recipe=mine")[2].startswith("recipes/mine.yaml: Override 'train_type : full' is defined")
    user.write("recipes/mine.yaml", body.format("/optim: fast", "override /train_type: full"))
    assert user.call("plan", "recipe=mine")[0] == 0
