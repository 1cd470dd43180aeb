"""What ZeRO cannot take over is refused before anything is split; the rest is tested in tests/engines."""

from pathlib import Path
from typing import Any

import pytest
import torch

from runner.core.errors import DataError
from runner.training import _into_zero, _whole_state
from tests.training import small


def written(folder: Path, learner: Any, kind: Any = torch.optim.AdamW, steps: int = 2) -> tuple[Path, dict[str, Any]]:
    """The file of an optimizer after so many steps, and what is in it."""
    optimizer = kind(learner.parameters(), lr=1e-2)
    for _ in range(steps):
        for number, weight in enumerate(learner.parameters()):
            weight.grad = torch.full_like(weight, 0.1 * number)
        optimizer.step()
    state = {**optimizer.state_dict(), "names": _whole_state.names(learner, optimizer)}
    torch.save(state, folder / "optimizer.pt")
    return folder / "optimizer.pt", state


def test_every_weight_that_learns_gets_its_moments(tmp_path: Path):
    learner = small.model()
    file, state = written(tmp_path, learner)
    found = _into_zero._of_optimizer(learner, file)
    assert set(found) == {name for name, _ in learner.named_parameters()}
    for number, name in enumerate(state["names"]):
        assert torch.equal(found[name]["exp_avg"], state["state"][number]["exp_avg"])


def test_tied_weights_are_known_by_either_name(tmp_path: Path):
    learner = small.model()
    file, state = written(tmp_path, learner)
    state["names"][0] = "lm_head.weight"
    torch.save(state, file)
    assert "lm_head.weight" in _into_zero._of_optimizer(learner, file)


def test_an_optimizer_that_never_stepped_is_no_error(tmp_path: Path):
    file, _ = written(tmp_path, small.model(), steps=0)
    assert not any(_into_zero._of_optimizer(small.model(), file).values())


def test_the_optimizer_of_other_weights_is_refused(tmp_path: Path):
    file, _ = written(tmp_path, small.model())
    with pytest.raises(DataError, match=r"optimizer.pt: is of an optimizer of other weights. Start anew"):
        _into_zero._of_optimizer(small.adapter(), file)


def test_moments_of_another_size_are_refused(tmp_path: Path):
    file, _ = written(tmp_path, small.model(), torch.optim.Adafactor)
    with pytest.raises(DataError, match=r"row_var of model.embed_tokens.weight is not as large as the weight"):
        _into_zero._of_optimizer(small.model(), file)


def test_steps_that_differ_are_refused(tmp_path: Path):
    file, state = written(tmp_path, small.model())
    state["state"][1]["step"] = torch.tensor(1.0)
    torch.save(state, file)
    with pytest.raises(DataError, match="took 1 steps with some weights and 2 with others, and ZeRO counts for all"):
        _into_zero._of_optimizer(small.model(), file)
