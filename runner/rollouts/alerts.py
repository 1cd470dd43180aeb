"""Says in plain words, with the number and a remedy, when a training on its own answers goes wrong.

Nothing that tells good from bad, answers cut off, without a score or left out by the correction, entropy gone, sampler
or model drifting away, a reward that fails.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from runner.rollouts.figures import Facts, mean

WINDOW, AT_LEAST = 20, 16  # rollouts looked at together; groups from which on a share means something
AGAIN = 50  # rollouts until the same is said again
SAME, CUT_OFF, UNSCORED, FAILING = 0.7, 0.3, 0.2, 0.02  # shares of groups, of answers twice, of a reward's calls
LEFT_OUT = 0.5  # share of what is compared
COLLAPSE, DRIFT = 0.25, 3.0  # of the entropy at the start; times the mismatch or divergence at the start
APART, FAR = 0.05, 0.5  # nats a token below which a mismatch or a divergence is none

SENTENCES = {
    "same": "in {share:.0%} of the last {groups} groups all answers were worth the same, so nothing is learned from "
    "them (mean reward {reward}). Take prompts that are neither too hard nor too easy, a higher num_generations, or "
    "dynamic_sample=true (where it is on already, a higher max_resample_times).",
    "cut off": "{share:.0%} of the last answers were cut off at {limit} tokens. Raise sampling.max_new_tokens, or take "
    "mask_truncated_completions=true, so that they carry no loss.",
    "unscored": "{share:.0%} of the last answers have no score, so nothing is learned from them: the rewards gave None "
    "or failed. completions.jsonl shows which (reward null); take prompts whose answers can be scored.",
    "entropy": "the entropy of a token fell from {before:.3f} to {now:.3f} nats: answers become all alike. Lower "
    "optim.lr, raise sampling.temperature or epsilon_high (0.28), or hold the model by beta.",
    "mismatch": "the engine's log-probabilities differ by {now:.3f} nats a token from the model's, {before:.3f} at the "
    "start. Take correction=token_truncate, a higher precision of the engine (backend.engine.dtype), or a lower "
    "optim.lr.",
    "left out": "the correction leaves out {share:.0%} of what could be learned from in the last rollouts, long "
    "answers first (correction_left_out in metrics.jsonl). Take correction=token_truncate, a higher correction_max, or "
    "a higher precision of the engine (backend.engine.dtype).",
    "kl": "the model is {now:.3f} nats a token away from its reference, {before:.3f} at the start. Raise beta or lower "
    "optim.lr.",
    "failing": "reward {name} failed on {failed} of the last {asked} answers, which got no score from it. Its first "
    "failure stands above; reward.{name}.time_limit is the seconds that a call may take.",
}


@dataclass
class Alerts:
    """Looks at one rollout after the other. limit: tokens of an answer. say: is given the update and the sentence.

    compared: whether answers of a group are learned from by how they differ.
    """

    limit: int
    say: Callable[[int, str], None]
    compared: bool = True
    _seen: deque[Facts] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _begin: list[Facts] = field(default_factory=list)
    _said: dict[str, int] = field(default_factory=dict)
    _count: int = 0

    def look(self, made: Facts, rewards: Mapping[str, tuple[int, int]], update: int, aloud: bool = True) -> None:
        """Look at a rollout, and say what is new.

        Args:
            rewards: of each the last answers that it was asked, and those of them on which it failed.
            aloud: False where a training goes on, and it was said before.
        """
        self._count += 1
        self._seen.append(made)
        if sum(one.groups for one in self._begin) < AT_LEAST:
            self._begin.append(made)
        for kind, sentence in (*self._found(), *_failing(rewards)):
            if self._count - self._said.get(kind, -AGAIN) >= AGAIN:
                self._said[kind] = self._count
                if aloud:
                    self.say(update, sentence)

    def _found(self) -> Iterator[tuple[str, str]]:
        groups = sum(one.groups for one in self._seen)
        if groups < AT_LEAST:
            return
        same = sum(one.same for one in self._seen) / groups
        if same >= SAME and self.compared:
            reward = _mean(self._seen, "reward")
            told = "unknown" if reward is None else f"{reward:.3g}"
            yield "same", SENTENCES["same"].format(share=same, groups=groups, reward=told)
        answers = max(1, sum(one.answers for one in self._seen))
        cut_off, unscored = (sum(getattr(one, name) for one in self._seen) for name in ("truncated", "unscored"))
        if unscored >= UNSCORED * answers:
            yield "unscored", SENTENCES["unscored"].format(share=unscored / answers)
        cut_off /= answers
        if cut_off >= CUT_OFF:
            yield "cut off", SENTENCES["cut off"].format(share=cut_off, limit=self.limit)
        left_out = _mean(self._seen, "left_out")
        if left_out is not None and left_out > LEFT_OUT:
            yield "left out", SENTENCES["left out"].format(share=left_out)
        if len(self._seen) > len(self._begin):
            yield from self._drifting()

    def _drifting(self) -> Iterator[tuple[str, str]]:
        """What is far from how it was at the start."""
        for kind in ("entropy", "mismatch", "kl"):
            before, now = _mean(self._begin, kind), _mean(self._seen, kind)
            if before is None or now is None:
                continue
            least = {"mismatch": APART, "kl": FAR}.get(kind, 0.0)
            if now < COLLAPSE * before if kind == "entropy" else now > max(least, DRIFT * before):
                yield kind, SENTENCES[kind].format(before=before, now=now)


def _failing(rewards: Mapping[str, tuple[int, int]]) -> Iterator[tuple[str, str]]:
    for name, (asked, failed) in rewards.items():
        if asked and failed / asked >= FAILING:
            yield f"reward {name}", SENTENCES["failing"].format(name=name, failed=failed, asked=asked)


def _mean(seen: Sequence[Facts] | deque[Facts], name: str) -> float | None:
    return mean([value for one in seen if (value := getattr(one, name)) is not None])
