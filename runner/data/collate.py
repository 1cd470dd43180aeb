"""Encoded sequences as the tensors of one micro-batch: padded on the right, or packed one after the other.

Padded: `attention_mask` hides the padding, whatever token fills it. Packed: positions start again with each sequence
and FlashAttention's bounds keep them apart. Either way a trained token is told by the place whose logits predict it,
so that logits are needed there only. A first token has no such place and is never trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from runner.core.types import UNTRAINED, Encoded

if TYPE_CHECKING:
    import torch

PADDING = 0  # any token will do: nothing attends to it and nothing is trained on it


@dataclass(frozen=True)
class MicroBatch:
    """What a model is run on, and what of it is trained.

    inputs: keywords of the model's forward. places: int64 [N], where in the flattened batch a trained token is
    predicted. targets: int64 [N], the tokens. weights: float32 [N]. owners: int64 [N], which of `sequences` each
    entry belongs to. sequences: indices into the data. filler: carries no weight, its weights are 0.
    tokens: real ones. slots: those computed, padding included. values: float32 [sequences] each, what an algorithm
    knows of every sequence; per_token: [N] or [N, so many] each, what it knows of every trained token.
    """

    inputs: dict[str, Any]
    places: "torch.Tensor"
    targets: "torch.Tensor"
    weights: "torch.Tensor"
    owners: "torch.Tensor"
    sequences: tuple[int, ...]
    filler: bool
    tokens: int
    slots: int
    values: "Mapping[str, torch.Tensor]" = field(default_factory=dict)
    per_token: "Mapping[str, torch.Tensor]" = field(default_factory=dict)

    def to(self, device: Any) -> "MicroBatch":
        """The same on a device."""
        move = {name: getattr(self, name).to(device) for name in ("places", "targets", "weights", "owners")}
        inputs = {key: value.to(device) if hasattr(value, "to") else value for key, value in self.inputs.items()}
        values = {name: value.to(device) for name, value in self.values.items()}
        per_token = {name: value.to(device) for name, value in self.per_token.items()}
        return replace(self, inputs=inputs, values=values, per_token=per_token, **move)


def trained(sequence: Encoded) -> list[tuple[int, float]]:
    """The trained tokens of a sequence, each as (its index, its weight)."""
    weights = sequence.weights
    found = [i for i, label in enumerate(sequence.labels) if label != UNTRAINED and i > 0]
    return [(i, 1.0 if weights is None else weights[i]) for i in found]


def collate(
    sequences: Sequence[Encoded], numbers: Sequence[int], packed: bool = False, filler: bool = False
) -> MicroBatch:
    """Make the tensors of one micro-batch.

    Args:
        sequences: its sequences. numbers: their indices in the data.
    """
    import torch

    lengths = [len(sequence.input_ids) for sequence in sequences]
    width = max(lengths)
    starts = [sum(lengths[:i]) if packed else i * width for i in range(len(lengths))]
    found = [trained(sequence) for sequence in sequences]
    places, targets, weights, owners = list[int](), list[int](), list[float](), list[int]()
    for owner, (sequence, start, here) in enumerate(zip(sequences, starts, found, strict=True)):
        labels = sequence.labels
        places += [start + index - 1 for index, _ in here]
        targets += [labels[index] for index, _ in here]
        weights += [0.0] * len(here) if filler else [weight for _, weight in here]
        owners += [owner] * len(here)
    return MicroBatch(
        inputs=_packed(sequences, lengths) if packed else _padded(sequences, lengths, width),
        places=torch.tensor(places, dtype=torch.int64),
        targets=torch.tensor(targets, dtype=torch.int64),
        weights=torch.tensor(weights, dtype=torch.float32),
        owners=torch.tensor(owners, dtype=torch.int64),
        sequences=tuple(numbers),
        filler=filler,
        tokens=sum(lengths),
        slots=sum(lengths) if packed else width * len(lengths),
        values={name: torch.tensor([s.values[name] for s in sequences]) for name in sequences[0].values},
        per_token={
            name: torch.tensor(
                [sequences[owner].per_token[name][i] for owner, here in enumerate(found) for i, _ in here]
            )
            for name in sequences[0].per_token
        },
    )


def _padded(sequences: Sequence[Encoded], lengths: Sequence[int], width: int) -> dict[str, Any]:
    """input_ids and attention_mask, int64 [sequences, longest]."""
    import torch

    ids = [list(s.input_ids) + [PADDING] * (width - n) for s, n in zip(sequences, lengths, strict=True)]
    mask = [[1] * n + [0] * (width - n) for n in lengths]
    return {"input_ids": torch.tensor(ids, dtype=torch.int64), "attention_mask": torch.tensor(mask, dtype=torch.int64)}


def _packed(sequences: Sequence[Encoded], lengths: Sequence[int]) -> dict[str, Any]:
    """input_ids and position_ids, int64 [1, tokens]; the sequences' bounds as FlashAttention wants them."""
    import torch

    bounds = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return {
        "input_ids": torch.tensor([[token for s in sequences for token in s.input_ids]], dtype=torch.int64),
        "position_ids": torch.tensor([[position for n in lengths for position in range(n)]], dtype=torch.int64),
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),  # Python integers: the kernels would otherwise wait for the device
        "max_length_k": max(lengths),
    }
