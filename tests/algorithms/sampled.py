"""Answers to prompts without any text, with all that an algorithm may know of their tokens, as sequences."""

import random

from runner.core.types import Encoded
from tests.training.small import VOCABULARY


def answers(count: int = 8, seed: int = 0, masked: tuple[int, ...] = ()) -> list[Encoded]:
    """Prompts of 3 to 9 tokens, answers of 2 to 14, with log-probabilities near those of a model without a clue."""
    rng = random.Random(seed)
    made = []
    for row in range(count):
        prompt = [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(3, 9))]
        answer = [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(2, 14))]
        labels = [-100] * len(prompt) + ([-100] * len(answer) if row in masked else answer)

        def told(middle: float, width: float, prompt: list[int] = prompt, answer: list[int] = answer) -> list[float]:
            return [0.0] * len(prompt) + [rng.gauss(middle, width) for _ in answer]

        per_token = {"old": told(-4.1, 0.4), "reference": told(-4.1, 0.3), "correction": told(1.0, 0.2)}
        values = {"advantage": rng.gauss(0.0, 1.0)}
        made.append(Encoded(prompt + answer, labels, None, "rows.jsonl", row, values=values, per_token=per_token))
    return made
