"""Mistakes of a training on sampled answers: rewards, columns, prompts, groups, engines."""

from dataclasses import replace

from tests.bad_inputs import harm
from tests.bad_inputs.case import Case

RECIPE = """\
# Two updates of GRPO of a tiny model.
# @package _global_
name: rl
model: {id: tiny}
mix: {datasets: [rows.jsonl]}
train_type: {kind: lora, lora: {rank: 2}}
sampling: {max_new_tokens: 4}
reward: {mine: {}}
max_updates: 2
stages: {train: {kind: grpo, prompts_per_update: 2, num_generations: 4}}
"""
FINE = "def mine(completions): return [float(len(set(text))) for text in completions]\n"


def case(sentence: str, *words: str, reward: str = FINE, code: int = 2) -> Case:
    """A mistake in the words of the command line or in the reward `mine`."""
    files = (("recipes/rl.yaml", RECIPE), ("plugins/rewards/mine.py", reward))
    return Case(sentence, words=" ".join(["recipe=rl", *words]), files=files, code=code)


CASES = {
    "rl: an unknown reward": case("no reward named 'mein'. Did you mean mine?", "'++reward.mein={}'"),
    "rl: no reward": case(
        "recipes/rl.yaml:8: reward (stage train): none, and nothing says which answers are good. reward=[accuracy].",
        "reward=[]",
    ),
    "rl: a column that the data lacks": case(
        "reward.mine (stage train): needs the column 'solution', which the data does not have. Choices: messages. "
        "In a dataset, columns: {NAME: solution} renames one.",
        reward="def mine(completions, *, solution): ...\n",
    ),
    "rl: a reward that compares answers with themselves": case(
        "reward.mine (stage train): asks for 'response', which is the answer that the model gave. Ask for 'reference'",
        reward="def mine(completions, *, response): ...\n",
    ),
    "rl: too few scores": case(
        "reward mine: returned 1 scores for 8 completions. Return one number, or None for no score, a completion.",
        reward="def mine(completions): return [1.0]\n",
    ),
    "rl: a score that is no number": case(
        "reward mine: returned nan as a score. Return one number, or None for no score, a completion.",
        reward="def mine(completions): return [float('nan')] * len(completions)\n",
    ),
    "rl: a reward that raises": case(
        "reward mine: failed on 4 of the last 8 completions, more than 10%. Its first failure: KeyError: 'x'.",
        reward="def mine(completions): raise KeyError('x')\n",
        code=1,
    ),
    "rl: a reward without its parameters": case(
        "reward soft_overlong: reward.soft_overlong.params: max_length 0 and cache 0 do not fit. Say both, in tokens:",
        "reward=[soft_overlong]",
    ),
    "rl: n-grams of nothing": case(
        "reward.repetition.params.n: 0 units make no n-gram. Take 3.",
        "reward=[repetition]",
        "reward.repetition.params.n=0",
    ),
    "rl: a part of a generation": case(
        "stages.train.num_generations: should be a whole number, not 2.5.", "stages.train.num_generations=2.5"
    ),
    "rl: prompts over the limit": case(
        "rows.jsonl: row 0: longer than max_length (42 > 5 tokens). None of the 20 rows can be trained on.",
        "max_length=5",
    ),
    "rl: an answer that leaves no room for a prompt": case(
        "sampling.max_new_tokens: 4096 leave no room for a prompt: the model takes 4096 tokens",
        "sampling.max_new_tokens=4096",
    ),
    "rl: no group that tells better from worse": case(
        "2 rollouts in a row had no group whose answers differ in reward (mean reward 1), so nothing can be learned.",
        "stages.train.max_idle=2",
        reward="def mine(completions): return [1.0] * len(completions)\n",
        code=1,
    ),
    "rl: all answers are cut off and masked": case(
        "1 rollouts in a row taught nothing: all 8 answers of the last one were cut off, and mask_truncated",
        "sampling.max_new_tokens=1 stages.train.max_idle=1 +stages.train.mask_truncated_completions=true",
        code=1,
    ),
    "rl: no score at all": case(
        "2 rollouts in a row had no group whose answers differ in reward (mean reward unknown), so nothing",
        "stages.train.max_idle=2",
        reward="def mine(completions): return [None] * len(completions)\n",
        code=1,
    ),
    "rl: one generation": case(
        "stages.train.num_generations: 1 answer to a prompt has nothing to be compared with. Take at least 2.",
        "stages.train.num_generations=1",
    ),
    "rl: a batch in rows": case(
        "command line: batch.rows (stage train): this stage counts prompts. Say stages.train.prompts_per_update",
        "batch.rows=16",
    ),
    "rl: greedy sampling": case(
        "command line: sampling.temperature (stage train): 0 gives the same answer each time", "sampling.temperature=0"
    ),
    "rl: greedy evaluations that are all the same": case(
        "stages.train.num_generations_eval: 4 greedy answers are all the same. Say stages.train.eval_temperature",
        "+stages.train.num_generations_eval=4",
    ),
    "rl: a reverse divergence from a teacher behind a server": case(
        "stages.train.beta: 1 needs what the teacher gives to every word that the student may say",
        "stages.train.kind=gkd +stages.train.teacher=master +stages.train.beta=1.0",
        "'+stages.train.teacher_server={base_url: http://127.0.0.1:9/v1}'",
    ),
    "rl: a teacher with another vocabulary": replace(
        case(
            "teacher: other has another vocabulary than tiny",
            "stages.train.kind=gkd +stages.train.teacher=other +stages.train.lmbda=1.0",
        ),
        harm=harm.another_vocabulary,
    ),
    "rl: a password in the address of a teacher": case(
        "teacher_server.base_url: holds a name or a password.",
        "stages.train.kind=gkd +stages.train.teacher=master",
        "'+stages.train.teacher_server={base_url: http://me:secret@127.0.0.1:9/v1}'",
    ),
    "rl: a teacher's server that is not there": case(
        "teacher_server.base_url: no server answers at http://127.0.0.1:9/v1",
        "stages.train.kind=gkd +stages.train.teacher=master",
        "'+stages.train.teacher_server={base_url: http://127.0.0.1:9/v1}'",
        code=1,
    ),
    "rl: vLLM is not there": case("backend.name: vLLM is not installed. Install the extra: vllm", "backend.name=vllm"),
    "rl: an endpoint": case("backend.name (stage train): an endpoint cannot sample", "backend.name=openai"),
    "rl: a key of TRL's": case(
        "stages.train.num_generation: no such key (value 8). Did you mean stages.train.num_generations?",
        "+stages.train.num_generation=8",
    ),
}
