"""An optimizer's state is found by the names of its weights, in whatever order it was written."""

from pathlib import Path
from typing import Any

import pytest
import torch

from runner.core.errors import DataError
from runner.training import _whole_state
from tests.training import small


def stepped(learner: Any, reverse: bool = False) -> torch.optim.Optimizer:
    """An optimizer of all weights after one step, each gradient as large as the weight's name is long."""
    weights = list(learner.named_parameters())
    for name, weight in weights:
        weight.grad = torch.full_like(weight, len(name) * 1e-3)
    groups = [[w for n, w in weights if w.dim() > 1], [w for n, w in weights if w.dim() < 2]]
    made = torch.optim.AdamW([{"params": group[::-1] if reverse else group} for group in groups], lr=1e-2)
    made.step()
    return made


def moments(learner: Any, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    return {name: optimizer.state[weight]["exp_avg"].mean().item() for name, weight in learner.named_parameters()}


def written(folder: Path, learner: Any, optimizer: torch.optim.Optimizer) -> Path:
    state = _whole_state.gathered(optimizer.state_dict(), keep=True)
    state["names"] = _whole_state.names(learner, optimizer)
    torch.save(state, folder / "optimizer.pt")
    return folder / "optimizer.pt"


def test_moments_go_to_the_weights_of_their_names(tmp_path: Path):
    one, other = small.model(), small.model()
    file = written(tmp_path, one, optimizer := stepped(one))
    turned = stepped(other, reverse=True)
    for state in turned.state.values():
        state["exp_avg"].zero_()
    _whole_state.load_optimizer(other, turned, file)
    assert moments(other, turned) == moments(one, optimizer)
    assert len(set(moments(one, optimizer).values())) > 3


def test_a_state_without_names_is_in_the_optimizers_order(tmp_path: Path):
    learner = small.model()
    torch.save((optimizer := stepped(learner)).state_dict(), tmp_path / "optimizer.pt")
    before = moments(learner, optimizer)
    for state in optimizer.state.values():
        state["exp_avg"].zero_()
    _whole_state.load_optimizer(learner, optimizer, tmp_path / "optimizer.pt")
    assert moments(learner, optimizer) == before


def test_the_optimizer_of_other_weights_is_refused(tmp_path: Path):
    learner = small.model()
    file = written(tmp_path, learner, stepped(learner))
    few = torch.optim.AdamW(learner.model.embed_tokens.parameters())
    with pytest.raises(DataError, match=r"optimizer.pt: is of an optimizer of other weights"):
        _whole_state.load_optimizer(learner, few, file)


@pytest.mark.parametrize("kind", ["full", "adapter"])
def test_weights_come_back_and_a_missing_one_is_told(tmp_path: Path, kind: str):
    from safetensors.torch import load_file, save_file

    make = small.model if kind == "full" else small.adapter
    one, other = make(seed=1), make(seed=1)
    with torch.no_grad():
        for weight in one.parameters():
            weight += 0.5 if weight.requires_grad else 0.0
    one.save_pretrained(tmp_path)
    _whole_state.load_weights(other, tmp_path)
    assert all(bool((a == b).all()) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    (file,) = tmp_path.glob("*.safetensors")
    held = load_file(file)
    held.pop(sorted(held)[-1])
    save_file(held, file)
    with pytest.raises(DataError, match="holds no "):
        _whole_state.load_weights(other, tmp_path)


def test_experts_that_are_written_one_by_one_come_back_together(tmp_path: Path):
    """Trainer's own loading finds no such names, says nothing, and the experts start anew."""
    one, other = small.experts(seed=1), small.experts(seed=2)
    one.save_pretrained(tmp_path)
    assert not torch.equal(one.model.layers[1].mlp.experts.down_proj, other.model.layers[1].mlp.experts.down_proj)
    _whole_state.load_weights(other, tmp_path)
    assert all(bool((a == b).all()) for a, b in zip(one.parameters(), other.parameters(), strict=True))
