"""What a model makes of sequences without a gradient: in little memory, and the same numbers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from runner.core.errors import StageError
from runner.data.collate import collate
from runner.training import _learner, fused_head
from runner.training._learner import TrainedModel
from runner.training._predictions import head_of, logprobs, predict
from runner.training.planned import Cutting
from tests.training import small
from tests.training.test_temperature import T, biased, capped

WIDE = 100  # words of the vocabulary, and the size of nothing else


class Widest(TorchDispatchMode):
    """How many places the largest tensor of logits has."""

    places = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.shape[-1:] == (WIDE,) and made.dim() > 1:
            weights = made.shape == (32, WIDE)  # of the head, turned over
            self.places = max(self.places, 0 if weights else made.numel() // WIDE)
        return made


def learner(model: Any, fuse: bool = False) -> TrainedModel:
    """What an algorithm is given between two updates, without a training around it."""
    trainer: Any = SimpleNamespace(
        args=SimpleNamespace(world_size=1, process_index=0, device=torch.device("cpu")), fuse=fuse,
        updates=SimpleNamespace(cutting=Cutting(120, False)), algorithm=SimpleNamespace(temperature=T),
        job=SimpleNamespace(name="train", stopping=lambda: False),
        accelerator=SimpleNamespace(unwrap_model=lambda model: model),
    )  # fmt: skip
    return TrainedModel(trainer, model, head_of(model))


@pytest.mark.parametrize("reference", [False, True], ids=["own", "reference"])
def test_logits_of_all_places_are_never_held(monkeypatch: pytest.MonkeyPatch, reference: bool) -> None:
    """Neither of the model that learns nor of one beside it."""
    monkeypatch.setattr(fused_head, "PIECE", 8)
    own, other = small.model(0), small.model(1)
    for one in (own, other):
        one.resize_token_embeddings(WIDE)
    data = small.rows(12)
    with Widest() as seen:
        told = learner(own).logprobs(data, other if reference else None)
    assert 0 < seen.places <= 8
    asked = (other if reference else own).eval()
    for row, numbers in zip(data, told, strict=True):
        plain = predict(asked, head_of(asked), collate([row], [0]), T)
        assert numbers == pytest.approx(plain.logprobs.tolist(), abs=2e-5)


@pytest.mark.parametrize("make", [small.model, small.adapter, biased, capped])
def test_the_numbers_are_those_of_training(monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    """A cap on logits too, which cannot be put on log-probabilities afterwards."""
    monkeypatch.setattr(fused_head, "PIECE", 8)
    model, micro = make().eval(), collate(small.rows(6), range(6))
    told = logprobs(model, head_of(model), micro, T)
    assert torch.allclose(told, predict(model, head_of(model), micro, T).logprobs, atol=1e-5)


def test_a_model_that_is_sure_of_every_word_keeps_its_cap() -> None:
    """Log-probabilities near 0 look the same before and after a cap."""
    model, micro = capped(), collate([small.rows(1)[0]], [0])
    with torch.no_grad():
        model.get_output_embeddings().weight *= 1e4
        sure = predict(model, head_of(model), micro).logits.argmax(-1)
    micro = micro.__class__(**{**vars(micro), "targets": sure})
    told = logprobs(model, head_of(model), micro)
    assert torch.allclose(told, predict(model, head_of(model), micro).logprobs, atol=1e-5) and told.max() < -0.01


def test_where_memory_runs_out_it_goes_on_with_less(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    model, data, most = small.model(), small.rows(12), 60
    plenty = learner(model).logprobs(data)
    sizes: list[int] = []

    def tight(asked: Any, head: Any, micro: Any, *given: Any) -> Any:
        if micro.slots > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(micro.slots)
        return logprobs(asked, head, micro, *given)

    monkeypatch.setattr(_learner, "logprobs", tight)
    for one, other in zip(plenty, learner(model).logprobs(data), strict=True):
        assert one == pytest.approx(other, abs=2e-5)
    assert sizes and "out of memory with micro-batches of" in capsys.readouterr().out
    most = 3
    with pytest.raises(StageError, match=r"train: log-probabilities of one sequence of \d+ tokens ran out of memory"):
        learner(model).logprobs(data)
