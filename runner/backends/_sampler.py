"""Draws the next token of each row of a batch. A row's draws come from its own random numbers, so that an answer does
not depend on what else is in the batch. Temperature 0 is greedy.
"""

import random
from dataclasses import dataclass, field

import torch

from runner.core.specs import Sampling

FULL = 2048  # candidates that are looked at before the whole vocabulary is sorted for top_p


@dataclass
class Row:
    """One answer in the making. ids: the prompt's; new: the tokens drawn so far."""

    index: int
    ids: list[int]
    random: random.Random
    new: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str | None = None


class Sampler:
    """Draws as a resolved `Sampling` says (backends/_sampling.py: nothing left open)."""

    def __init__(self, sampling: Sampling) -> None:
        self.temperature = sampling.temperature or 0.0
        self.top_k, self.top_p, self.min_p = sampling.top_k or 0, sampling.top_p or 1.0, sampling.min_p or 0.0
        self.repetition = sampling.repetition_penalty or 1.0
        self.presence, self.frequency = sampling.presence_penalty or 0.0, sampling.frequency_penalty or 0.0
        self.wants_logprobs = sampling.logprobs

    def draw(self, logits: torch.Tensor, rows: list[Row]) -> list[int]:
        """The next token of each row; it is written to the row, with its log-probability where that is wanted.

        Args:
            logits: (rows, vocabulary), of the last position.
        """
        logits = logits.float()
        if self.repetition != 1.0 or self.presence or self.frequency:
            logits = self._penalised(logits, rows)
        chosen = logits.argmax(-1) if self.temperature == 0 else self._sampled(logits, rows)
        tokens: list[int] = chosen.tolist()
        for row, token in zip(rows, tokens, strict=True):
            row.new.append(token)
        if self.wants_logprobs:
            scaled = logits / (self.temperature or 1.0)
            picked = scaled.gather(1, chosen[:, None]).squeeze(1) - scaled.logsumexp(-1)
            for row, value in zip(rows, picked.tolist(), strict=True):
                row.logprobs.append(value)
        return tokens

    def _penalised(self, logits: torch.Tensor, rows: list[Row]) -> torch.Tensor:
        logits = logits.clone()
        for scores, row in zip(logits, rows, strict=True):
            if self.repetition != 1.0:
                seen = torch.tensor(sorted({*row.ids, *row.new}), device=logits.device)
                old = scores[seen]
                scores[seen] = torch.where(old > 0, old / self.repetition, old * self.repetition)
            if row.new and (self.presence or self.frequency):
                used, counts = torch.unique(torch.tensor(row.new, device=logits.device), return_counts=True)
                scores[used] -= self.presence + self.frequency * counts
        return logits

    def _sampled(self, logits: torch.Tensor, rows: list[Row]) -> torch.Tensor:
        """By inverting the distribution at one uniform number a row."""
        size = logits.shape[-1]
        scaled = logits / self.temperature
        uniform = torch.tensor([row.random.random() for row in rows], device=logits.device)
        if not 0 < self.top_k < size and self.top_p == 1.0 and self.min_p == 0.0:
            return self._invert(scaled.softmax(-1), uniform)
        wanted = min(self.top_k, size) if self.top_k > 0 else min(FULL, size)
        values, places = scaled.topk(wanted, dim=-1)
        total = scaled.logsumexp(-1, keepdim=True) if self.top_k <= 0 else values.logsumexp(-1, keepdim=True)
        share = (values - total).exp()
        if self.top_k <= 0 and wanted < size and self._cut_off(share):
            values, places = scaled.sort(dim=-1, descending=True)
            share = (values - total).exp()
        before = share.cumsum(-1) - share
        dropped = (before >= self.top_p) | (share < self.min_p * share[:, :1])
        dropped[:, 0] = False
        share = share.masked_fill(dropped, 0.0)
        drawn = self._invert(share / share.sum(-1, keepdim=True), uniform)
        return places.gather(1, drawn[:, None]).squeeze(1)

    def _cut_off(self, share: torch.Tensor) -> bool:
        """Whether the candidates looked at might not be all that top_p and min_p keep."""
        few = share.sum(-1) < self.top_p
        likely = share[:, -1] >= self.min_p * share[:, 0]
        return bool((few & likely).any())

    @staticmethod
    def _invert(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        summed = probabilities.double().cumsum(-1)
        place = torch.searchsorted(summed, (uniform.double() * summed[:, -1])[:, None], right=True).squeeze(1)
        return place.clamp(max=probabilities.shape[-1] - 1)
