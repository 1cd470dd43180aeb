"""The losses of DPO and its kin, each a function of how much likelier both answers of a pair became.

A loss takes `Ratios` and returns float32 [pairs]. Names follow TRL's `DPOConfig.loss_type`. Those that compare answers
across pairs (aot) are not here: they would depend on how an update is cut.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class Ratios:
    """chosen, rejected: log of policy over reference, [pairs]. chosen_size, rejected_size: tokens of the answers.

    smoothing: `label_smoothing`.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_size: torch.Tensor
    rejected_size: torch.Tensor
    beta: float
    smoothing: float

    @property
    def margin(self) -> torch.Tensor:
        """How much more the chosen answer gained than the rejected one."""
        return self.chosen - self.rejected

    @property
    def token_margin(self) -> torch.Tensor:
        """The same with both gains taken per token."""
        return self.chosen / self.chosen_size.clamp(min=1.0) - self.rejected / self.rejected_size.clamp(min=1.0)


def sigmoid(given: Ratios) -> torch.Tensor:
    """Rafailov et al. 2023 (arXiv 2305.18290)."""
    return -logsigmoid(given.beta * given.margin)


def hinge(given: Ratios) -> torch.Tensor:
    """SLiC, Zhao et al. 2023 (arXiv 2305.10425)."""
    return torch.relu(1 - given.beta * given.margin)


def ipo(given: Ratios) -> torch.Tensor:
    """Azar et al. 2023 (arXiv 2310.12036); beta is their tau, and gains are taken per token."""
    return (given.token_margin - 1 / (2 * given.beta)) ** 2


def robust(given: Ratios) -> torch.Tensor:
    """Chowdhury et al. 2024 (arXiv 2403.00409): a share `label_smoothing` of the preferences is the wrong way round."""
    right, wrong = logsigmoid(given.beta * given.margin), logsigmoid(-given.beta * given.margin)
    return (given.smoothing * wrong - (1 - given.smoothing) * right) / (1 - 2 * given.smoothing)


def sigmoid_norm(given: Ratios) -> torch.Tensor:
    """`sigmoid` with gains per token, as Tülu 3 has it (arXiv 2411.15124)."""
    return -logsigmoid(given.beta * given.token_margin)


def exo_pair(given: Ratios) -> torch.Tensor:
    """Ji et al. 2024 (arXiv 2402.00856), equation 16."""
    better, worse = logsigmoid(given.beta * given.margin), logsigmoid(-given.beta * given.margin)
    wanted = torch.tensor([1 - given.smoothing, given.smoothing], device=better.device).log()
    return better.exp() * (better - wanted[0]) + worse.exp() * (worse - wanted[1])


def nca_pair(given: Ratios) -> torch.Tensor:
    """Chen et al. 2024 (arXiv 2402.05369)."""
    chosen, rejected = given.beta * given.chosen, given.beta * given.rejected
    return -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)


def bco_pair(given: Ratios) -> torch.Tensor:
    """Each answer against its reference alone, Jung et al. 2024 (arXiv 2404.04656)."""
    return -logsigmoid(given.beta * given.chosen) - logsigmoid(-given.beta * given.rejected)


def sppo_hard(given: Ratios) -> torch.Tensor:
    """Wu et al. 2024 (arXiv 2405.00675), the chosen answer winning for certain."""
    return (given.chosen - 0.5 / given.beta) ** 2 + (given.rejected + 0.5 / given.beta) ** 2


def apo_zero(given: Ratios) -> torch.Tensor:
    """D'Oosterlinck et al. 2024 (arXiv 2408.06266), for answers better than the model's own."""
    return 1 - torch.sigmoid(given.beta * given.chosen) + torch.sigmoid(given.beta * given.rejected)


def apo_down(given: Ratios) -> torch.Tensor:
    """The same, for answers that are worse than the model's own."""
    return torch.sigmoid(given.beta * given.chosen) + 1 - torch.sigmoid(given.beta * given.margin)


LOSSES: dict[str, Callable[[Ratios], torch.Tensor]] = {
    loss.__name__: loss
    for loss in (
        sigmoid, hinge, ipo, robust, sigmoid_norm, exo_pair, nca_pair, bco_pair, sppo_hard, apo_zero, apo_down,
    )
}  # fmt: skip
