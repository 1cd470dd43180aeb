"""Whether two models answer alike: the same short conversations, token by token, by what each would say next."""

from dataclasses import dataclass
from typing import Any

QUESTIONS = ("Who are you?", "What is 17 + 5?", "Name three colors.", "Write one sentence about the sea.")
LENGTH = 12  # tokens of an answer
TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}  # of the logits' spread, by the type of the weights
MEASURABLE = 0.5  # of the tolerance: an adapter that changes more than this changes more than rounding does
NEARER = 0.75  # of what an adapter changes: a merged model that is farther from it has lost the adapter, or much of it


@dataclass(frozen=True)
class Answers:
    """texts: token ids, one list a conversation. logits: float32 [tokens, vocabulary], one a conversation."""

    texts: list[list[int]]
    logits: list[Any]


def answers(model: Any, tokenizer: Any, like: Answers | None = None) -> Answers:
    """What a model would say next at each place of a few conversations.

    Args:
        like: read the conversations of these answers; None: the model answers itself, greedily.
    """
    import torch

    texts = like.texts if like else [_greedy(model, _prompt(tokenizer, question)) for question in QUESTIONS]
    with torch.no_grad():
        logits = [model(torch.tensor([ids], device=model.device)).logits[0].float().cpu() for ids in texts]
    return Answers(texts, logits)


def _prompt(tokenizer: Any, question: str) -> list[int]:
    if not tokenizer.chat_template:
        return list(tokenizer(question)["input_ids"])
    from jinja2 import TemplateError

    asked: Any = [{"role": "user", "content": question}]
    try:
        asked = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    except (TemplateError, ValueError, TypeError):  # it takes no such conversation, or is one of several without a name
        asked = question
    return list(tokenizer(asked)["input_ids"])


def _greedy(model: Any, ids: list[int]) -> list[int]:
    import torch

    with torch.no_grad():
        for _ in range(LENGTH):
            ids = [*ids, int(model(torch.tensor([ids], device=model.device)).logits[0, -1].argmax())]
    return ids


@dataclass(frozen=True)
class Agreement:
    """same_next_token: share of places where both would say the same. difference: mean difference of the logits over
    their spread. adapter_difference: the same between the adapter and the plain base, for comparison.
    """

    same_next_token: float
    difference: float
    adapter_difference: float

    @staticmethod
    def between(expected: Answers, merged: Answers, plain: Answers) -> "Agreement":
        """Compare three readings of the same conversations."""
        import torch

        first, second, third = (torch.cat(read.logits) for read in (expected, merged, plain))
        spread = float(first.std()) or 1.0
        same = (first.argmax(-1) == second.argmax(-1)).double().mean()
        differences = [float((first - other).abs().mean()) / spread for other in (second, third)]
        return Agreement(round(float(same), 4), *(float(f"{value:.3g}") for value in differences))

    def good(self, dtype: str) -> bool:
        """Whether what is left between them is rounding alone, and not the adapter itself."""
        tolerance = TOLERANCE.get(dtype, TOLERANCE["bfloat16"])
        lost = self.adapter_difference > MEASURABLE * tolerance and self.difference > NEARER * self.adapter_difference
        return self.difference <= tolerance and not lost  # false for NaN

    def __str__(self) -> str:
        """For people."""
        return (
            f"same next token at {self.same_next_token:.1%} of places, logits differ by {self.difference:.2g} of their "
            f"spread (adapter and plain base by {self.adapter_difference:.2g})"
        )
