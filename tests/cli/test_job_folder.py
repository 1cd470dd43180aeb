"""The folder of a sweep's job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.job_folder import LONGEST, folder_name


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        (["+recipe=x", "optim.lr=1e-4"], "optim.lr=1e-4"),
        (["optim.lr=1", "+recipe=x", "++stages.a.words=b"], "optim.lr=1,stages.a.words=b"),
        (["+recipe=x"], "as_written"),
        (["+recipe=x", "name=both"], "name=both,recipe=x"),  # jobs of several recipes had one folder
        (["~stages.ask", "seed=1"], "seed=1,without_stages.ask"),
        (
            ["seed=1", "parallelism=zero3", "parallelism.gpus=8", "log.every=1", "output_dir=x", "data.workers=3"],
            "seed=1",
        ),
        (["seed=1", "backend=vllm"], "backend=vllm,seed=1"),
    ],
)
def test_names(overrides: list[str], folder: str) -> None:
    """Without plus signs, recipe and keys of execution; in an order of its own."""
    assert folder_name(overrides) == folder


def test_keys_may_be_left_out() -> None:
    """Hydra's own setting for it is kept: hydra.job.config.override_dirname.exclude_keys."""
    assert folder_name(["seed=1", "name=x"], ["name"]) == "seed=1"


def test_unsafe_values_stay_apart() -> None:
    """Slashes, spaces, brackets and quotes are replaced, and a hash tells the values apart."""
    names = {folder_name([f"model.id={name}"]) for name in ("a/b", "a#b", "a b", "a:b", "a_b", "'a/b'")}
    assert len(names) == 6
    assert folder_name(["model.id=Qwen/Qwen3-8B"]).startswith("model.id=Qwen_Qwen3-8B-")


@given(st.lists(st.text(min_size=1, max_size=80).map(lambda text: f"key={text}"), max_size=4))
def test_any_name_is_one_short_folder(overrides: list[str]) -> None:
    """Never a path, never hidden, never too long, always the same."""
    name = folder_name(overrides)
    assert 0 < len(name) <= LONGEST and "/" not in name and not name.startswith(".") and "\0" not in name
    assert name == folder_name(list(reversed(overrides)))
