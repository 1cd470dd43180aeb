"""Sequences as a person reads them: trained text green, weighted text yellow with its weight, the rest dim; red where
an answer is trained against: the rejected one of a pair, or one whose label is false.

Control tokens are in reverse, line ends are visible. Without colours trained text stands between « and », its weight
behind that unless it is 1, a control token between ⟦ and ⟧, so that words which only look like one are told apart.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from runner.core.types import UNTRAINED, Encoded
from runner.data.judged import verdict
from runner.terminal import screen

BARS = 8  # stretches of the length histogram
AGAINST = ("rejected", False)  # verdicts


def summary(stage: str, sequences: Sequence[Encoded], lost: Sequence[Any], report: Sequence[str]) -> None:
    """Rows, sequences, trained share, lengths, dropped rows by reason, and what the data path has to tell."""
    out = screen()
    tokens = sum(len(sequence.input_ids) for sequence in sequences)
    trained = sum(label != UNTRAINED for sequence in sequences for label in sequence.labels)
    rows = len({(sequence.source, sequence.row) for sequence in sequences})
    out.print(Text.assemble((stage, "bold"), f"  {rows} rows, {len(sequences)} sequences, {len(lost)} rows dropped"))
    if tokens:
        out.print(f"tokens   {tokens:,}, of which {trained:,} are trained ({trained / tokens:.0%})")
    for line in histogram([len(sequence.input_ids) for sequence in sequences]):
        out.print(line)
    for reason, count in Counter(row.reason for row in lost).most_common():
        out.print(f"dropped  {count}: {reason}")
    for line in report:
        if not line.startswith("dropped:"):
            out.print(f"data     {line}")


def histogram(lengths: Sequence[int]) -> Iterator[str]:
    """Lengths in tokens, in stretches of one width from the shortest to the longest."""
    if not lengths:
        return
    low = min(lengths)
    width = max(1, -(-(max(lengths) + 1 - low) // BARS))
    counts = Counter((length - low) // width for length in lengths)
    most = max(counts.values())
    for stretch in range(max(counts) + 1):
        count, start = counts[stretch], low + stretch * width
        bar = "█" * max(1 if count else 0, round(40 * count / most))
        yield f"length   {start:>6} to {start + width - 1:<6} {count:>7} {bar}".rstrip()


def show(number: int, sequence: Encoded, tokenizer: Any) -> None:
    """Print one sequence."""
    out = screen()
    trained = sum(label != UNTRAINED for label in sequence.labels)
    place, said = f"{sequence.source}: row {sequence.row}", verdict(sequence.values)
    told = "" if said is None else f", {said[1]}" if said[0] == "answer" else f", label {str(said[1]).lower()}"
    counted = f"{len(sequence.input_ids)} tokens, {trained} trained"
    out.print(Text.assemble("\n", (str(number), "bold"), f"  {place}, turn {sequence.turn}{told}: {counted}"))
    out.print(painted(sequence, tokenizer, plain=out.color_system is None or out.no_color))


def painted(sequence: Encoded, tokenizer: Any, plain: bool = False) -> Text:
    """The whole sequence as text with styles; plain: with marks around what is trained."""
    made = Text()
    before: float | None = None
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    special = added | set(tokenizer.all_special_ids)
    said = verdict(sequence.values)
    colour = "red" if said is not None and said[1] in AGAINST else "green"
    for text, weight, control in (*stretches(sequence, tokenizer, special), ("", None, False)):
        if weight != before:
            made.append("»" if plain and before is not None else "")
            made.append(f"×{before:g}" if before not in (None, 1.0) else "", "bold yellow")
            made.append("«" if plain and weight is not None else "")
        before = weight
        style = "dim" if weight is None else "yellow" if weight != 1.0 else colour
        shown = (f"⟦{text}⟧" if plain else text) if control else text.replace("\n", "⏎\n")
        made.append(shown, f"{style} reverse" if control else style)
    return made


def stretches(sequence: Encoded, tokenizer: Any, special: set[int]) -> Iterator[tuple[str, float | None, bool]]:
    """(text, weight or None where untrained, is a control token) of neighbours that are alike."""
    weights = sequence.weights or [1.0] * len(sequence.input_ids)
    ids: list[int] = []
    kind: tuple[float | None, bool] | None = None
    for token, label, weight in zip(sequence.input_ids, sequence.labels, weights, strict=True):
        own = (None if label == UNTRAINED else weight, token in special)
        if kind is not None and (own != kind or own[1]):
            yield str(tokenizer.decode(ids)), *kind
            ids = []
        kind = own
        ids.append(token)
    if kind is not None:
        yield str(tokenizer.decode(ids)), *kind
