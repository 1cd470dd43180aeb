"""The gate before training: sequences that would teach something wrong without a sign of it are refused, row named.

Refuses a sequence in which nothing is trained, and an answer that is trained while the token that ends it is not: the
model would not learn to stop. (Left-over variables and templates without a generation prompt are refused on the way.)
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from runner.core.errors import DataError
from runner.core.types import UNTRAINED, Encoded
from runner.data.dialect import dialect
from runner.data.store import Stored

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check(sequences: Iterable[Encoded], tokenizer: "PreTrainedTokenizerBase") -> None:
    """Look at every sequence.

    Raises:
        DataError: the first row that must not be trained on as it is, and why.
    """
    ends = _ends(tokenizer)
    for sequence in sequences.suspects(sorted(ends)) if isinstance(sequences, Stored) else sequences:
        place = f"{sequence.source}: row {sequence.row}"
        if all(label == UNTRAINED for label in sequence.labels):
            raise DataError(
                f"{place}: no token of it would be trained. Look at the rules: loss_scale, and the row's own loss."
            )
        unended = _unended(sequence, ends)
        if unended is not None:
            raise DataError(
                f"{place}: an answer is trained and the token that ends it, {tokenizer.decode([unended])!r}, is not: "
                "the model would not learn to stop. Let the rule that weighs the end of the text keep it above 0."
            )


def _ends(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """The tokens that end a turn: the tokenizer's own, and the one that its chat template writes."""
    ends = {tokenizer.eos_token_id}
    if tokenizer.chat_template:
        stops = dialect(tokenizer).stops
        ends |= {
            number for number, token in tokenizer.added_tokens_decoder.items() if stops.fullmatch(str(token.content))
        }
    return {end for end in ends if end is not None}


def _unended(sequence: Encoded, ends: set[int]) -> int | None:
    """An untrained end-of-turn token right after a trained token, or None."""
    ids, labels = sequence.input_ids, sequence.labels
    for end in ends:
        place = 0
        for _ in range(ids.count(end)):
            place = ids.index(end, place)
            if place and labels[place] == UNTRAINED and labels[place - 1] != UNTRAINED:
                return end
            place += 1
    return None
