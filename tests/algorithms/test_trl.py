"""TRL's own trainers as oracles: on the same batch the same loss and the same gradient.

Needs the extra `trl`; its formulas are also written out in the tests beside this file, which run everywhere.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.algorithms._dpo_losses import LOSSES
from runner.algorithms.dpo import Dpo
from runner.algorithms.kto import Kto
from runner.algorithms.orpo import Orpo
from runner.algorithms.reward_model import RewardModel
from runner.algorithms.simpo import Simpo
from runner.core.types import Encoded
from runner.data.collate import collate
from runner.data.mismatch import Mismatched
from runner.data.scored import Scored
from runner.models._value_head import classifier, with_value_head
from runner.training._predictions import head_of, predict
from tests.algorithms import judged
from tests.training import small

pytest.importorskip("trl", minversion="1.16.0")
pytestmark = pytest.mark.filterwarnings("ignore")  # TRL's and its experimental parts'

PLAIN: dict[str, Any] = {
    "report_to": [], "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "max_length": None,
    "per_device_train_batch_size": 8, "disable_dropout": True,
}  # fmt: skip


def parted(one: Encoded) -> tuple[list[int], list[int]]:
    """The question and the answer of a sequence."""
    start = next(i for i, label in enumerate(one.labels) if label != -100)
    return one.input_ids[:start], one.input_ids[start:]


def oracle(
    kind: Any, config: Any, rows: list[dict[str, Any]], learner: Any = 0, **keys: Any
) -> tuple[torch.Tensor, float]:
    """Gradient and loss of a TRL trainer on one batch of tokenized rows. learner: a seed, or a model."""
    from datasets import Dataset

    class Tokenized(kind):  # type: ignore[misc]
        """Takes the rows as they are."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    held, words = Dataset.from_list(rows), small.tokenizer()
    model = small.model(seed=learner) if isinstance(learner, int) else learner
    trainer = Tokenized(model=model, args=config, train_dataset=held, processing_class=words, **keys)
    trainer.model.train().zero_grad()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    loss.backward()
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]), loss.item()


def same(ours: tuple[torch.Tensor, float], theirs: tuple[torch.Tensor, float]) -> None:
    assert ours[1] == pytest.approx(theirs[1], rel=1e-4, abs=1e-6)
    assert judged.apart(theirs[0], ours[0]) < 1e-4


def triples(data: Sequence[Encoded]) -> list[dict[str, Any]]:
    """Pairs as TRL's DPO takes them."""
    made = []
    for chosen, rejected in zip(data[::2], data[1::2], strict=True):
        prompt, answer = parted(chosen)
        made.append({"prompt_ids": prompt, "chosen_ids": answer, "rejected_ids": parted(rejected)[1]})
    return made


DPO: dict[str, dict[str, Any]] = {
    **{name: {"loss_type": [name]} for name in LOSSES},
    "sft": {"loss_type": ["sft"]},
    "sigmoid and sft": {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.8, 0.5]},
    "plain": {},
}


@pytest.mark.parametrize("keys", DPO.values(), ids=DPO)
def test_dpo(tmp_path: Path, keys: dict[str, Any]):
    """Defaults too: `plain` gives no key at all."""
    from trl import DPOConfig, DPOTrainer

    data = judged.pairs(8, before=small.model(seed=1))
    given = {**keys, "beta": 0.3, "label_smoothing": 0.1} if keys else {}
    config = DPOConfig(output_dir=str(tmp_path), **given, **PLAIN)
    theirs = oracle(DPOTrainer, config, triples(data), ref_model=small.model(seed=1))
    cuts = [range(4), range(4, 14), range(14, 16)]
    same(judged.gradient(small.model(), Dpo(**given), data, cuts), theirs)


KTO: dict[str, dict[str, Any]] = {
    "kto": {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.7},
    "apo": {"beta": 0.3, "loss_type": "apo_zero_unpaired"},
    "plain": {},
}


@pytest.mark.parametrize("learner", [0, 2])  # of one the baseline is above 0, of the other it is not
@pytest.mark.parametrize("keys", KTO.values(), ids=KTO)
def test_kto(tmp_path: Path, keys: dict[str, Any], learner: int):
    """With the same answers to other questions; TRL's own rotation is of the rows as they lie in a batch."""
    from trl import KTOConfig, KTOTrainer

    before = small.model(seed=1)
    data = judged.labelled(12, before=before)
    others = judged.referred(list(Mismatched(data, 0, None, "mix")), before)
    rows = [
        {
            "prompt_ids": parted(one)[0], "completion_ids": parted(one)[1], "KL_completion_ids": parted(other)[1],
            "label": one.values["desirable"] == 1.0,
        }
        for one, other in zip(data, others, strict=True)
    ]  # fmt: skip
    config = KTOConfig(output_dir=str(tmp_path), **keys, **PLAIN)
    theirs = oracle(KTOTrainer, config, rows, learner, ref_model=small.model(seed=1))
    model = small.model(seed=learner)
    moved = sum(judged.logprob(model, one) - one.values["reference"] for one in others) / len(others)
    assert (moved > 0.05) == (learner == 0)
    total = {"kl": max(0.0, moved)}
    same(judged.gradient(model, Kto(**keys), data, [range(5), range(5, 12)], more=total), theirs)


class Nobody:
    """What TRL's loss functions ask of their trainer."""

    def __init__(self, **keys: Any) -> None:
        from types import SimpleNamespace

        self.__dict__.update(keys)
        self.accelerator = SimpleNamespace(device="cpu")


def means(model: Any, data: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probability a token of chosen and rejected answers, and the cross-entropy of the chosen ones."""
    micro = collate(data, range(len(data)))
    logprobs = predict(model, head_of(model), micro).logprobs
    parts = [logprobs[micro.owners == number] for number in range(len(data))]
    each = torch.stack([part.mean() for part in parts])
    return each[::2], each[1::2], -torch.cat(parts[::2]).mean()


def by_hand(model: Any, loss: torch.Tensor) -> tuple[torch.Tensor, float]:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()]), loss.item()


def test_simpo():
    """With CPO's term too; TRL adds it over all chosen tokens of the batch."""
    from trl.experimental.cpo import CPOTrainer

    model, data = small.model(), judged.pairs(8)
    chosen, rejected, copied = means(model, data)
    keys = {"beta": 2.0, "simpo_gamma": 0.8, "label_smoothing": 0.1}
    nobody = Nobody(**keys, alpha=0.0, loss_type="simpo")
    theirs = by_hand(model, CPOTrainer.cpo_loss(nobody, chosen, rejected)[0].mean() + 0.5 * copied)
    ours = Simpo(**keys, cpo_alpha=0.5)
    same(judged.gradient(small.model(), ours, data, [range(4), range(4, 16)]), theirs)


def test_orpo():
    from trl.experimental.orpo import ORPOTrainer

    model, data = small.model(), judged.pairs(8)
    chosen, rejected, copied = means(model, data)
    lost = ORPOTrainer.odds_ratio_loss(Nobody(beta=0.3), chosen, rejected)[0]
    theirs = by_hand(model, copied - lost.mean())
    same(judged.gradient(small.model(), Orpo(beta=0.3), data, [range(4), range(4, 16)]), theirs)


def test_reward_model(tmp_path: Path):
    """The same numbers from the same weights, head included, and the same gradient of all of them."""
    from trl import RewardConfig, RewardTrainer

    torch.manual_seed(5)
    learner = with_value_head(small.model())[0]
    pairs = judged.pairs(8)
    rows = [
        {"chosen_ids": chosen.input_ids, "rejected_ids": rejected.input_ids}
        for chosen, rejected in zip(pairs[::2], pairs[1::2], strict=True)
    ]
    keys = {"center_rewards_coefficient": 0.3}
    config = RewardConfig(output_dir=str(tmp_path), **keys, **PLAIN)
    theirs = oracle(RewardTrainer, config, rows, classifier(learner, 2, None))
    same(judged.gradient(learner, RewardModel(**keys), list(Scored(pairs)), [range(4), range(4, 16)]), theirs)
