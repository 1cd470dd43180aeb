"""What a model's chat template is like: which token ends a turn, whether it knows thinking, where answers begin.

Found out by rendering one exchange. Refuses templates that cannot be trained on as they would be used: without a
generation prompt, or without an end-of-turn token.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.core.errors import ModelError
from runner.data.control import ControlTokens
from runner.data.render import Refused, render, template_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUESTION, ANSWER = "qzquestionqz", "qzanswerqz"
EMPTY_THOUGHT = re.compile(r"<think>\s*</think>\s*")


@dataclass(frozen=True)
class Dialect:
    """The habits of one tokenizer and its chat template.

    stops: matches the tokens that end a turn. specials: matches any special token. thinks: whether the template reads
    `enable_thinking`.
    """

    tokenizer: "PreTrainedTokenizerBase"
    control: ControlTokens
    stops: re.Pattern[str]
    specials: re.Pattern[str]
    thinks: bool
    name: str

    def end_of_turn(self, text: str, start: int) -> tuple[int, int] | None:
        """Where the token lies that ends the turn which starts at `start`; None when there is none."""
        found = self.stops.search(text, start)
        if found is not None:
            return found.span()
        others = [special.span() for special in self.specials.finditer(text, start)]
        return others[-1] if others else None


def dialect(tokenizer: "PreTrainedTokenizerBase") -> Dialect:
    """Look at a tokenizer.

    Raises:
        ModelError: no fast tokenizer, no chat template, no generation prompt, or no end-of-turn token.
    """
    name = tokenizer.name_or_path or "tokenizer"
    if not tokenizer.is_fast:
        raise ModelError(
            f"{name}: needs a fast tokenizer (tokenizer.json), which tells where each token lies in the text."
        )
    control = ControlTokens(tokenizer)
    specials = control.every
    thinks = "enable_thinking" in template_text(tokenizer)
    last = _last_token(tokenizer, specials, thinks, name)
    stops = dict.fromkeys(str(word) for word in (last, tokenizer.eos_token) if word)
    pattern = re.compile("|".join(re.escape(word) for word in stops))
    return Dialect(tokenizer, control, pattern, specials, thinks, name)


def _last_token(tokenizer: "PreTrainedTokenizerBase", specials: re.Pattern[str], thinks: bool, name: str) -> str | None:
    """What the template ends an answer with, mostly one token; None when it takes no such simple exchange."""
    # every special token right after the answer belongs to its end: <|END_RESPONSE|><|END_OF_TURN_TOKEN|>
    user = {"role": "user", "content": QUESTION}
    exchange = [user, {"role": "assistant", "content": ANSWER}]
    try:
        whole = render(tokenizer, exchange)
        asked, prompt = render(tokenizer, [user]), render(tokenizer, [user], prompt=True)
    except Refused:
        return None
    before, _, after = whole.partition(ANSWER)
    opening = EMPTY_THOUGHT.sub("", before.removeprefix(prompt)).strip()
    if prompt == asked and opening:
        raise ModelError(
            f"{name}: its chat template has no generation prompt: inference would not start with {opening!r}, "
            "which training would put before each answer. Mend the template: it must honour add_generation_prompt."
        )
    first = specials.search(after)
    if first is None:
        raise ModelError(
            f"{name}: its chat template writes no special token after an answer, so the model would not learn to stop. "
            "Mend the template, or choose the chat model of the family."
        )
    end = first.end()
    while (following := specials.match(after, end)) is not None:
        end = following.end()
    return after[first.start() : end]
