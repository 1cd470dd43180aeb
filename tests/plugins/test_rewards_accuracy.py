"""Mathematical equality, what counts as the answer, and time that runs out."""

import time
from pathlib import Path
from typing import Any

import pytest

from runner.core import registry
from runner.core.errors import ConfigError
from runner.core.specs import Reward
from runner.scoring.rewards import Rewards

pytest.importorskip("math_verify")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "solution", "score"),
    [
        ("The answer is 42.", "42", 1.0),
        ("The answer is 41.", "42", 0.0),
        ("So we get $\\frac{2}{4}$.", "$\\frac{1}{2}$", 1.0),
        ("It is \\boxed{x^2+2x+1}, not 7.", "$(x+1)^2$", 1.0),
        ("so \\boxed{72}", "She sold 48/2 = <<48/2=24>>24 clips.\n#### 72", 1.0),
        ("First 3, then \\boxed{5}.", "A long proof. Hence \\boxed{5}.", 1.0),
        ("<think>\nMaybe 42.\n</think>\n\nIt is 7.", "42", 0.0),
        ("<think>\nIt is 42, or", "42", 0.0),
        ("<think>a</think> 1 and <answer>42</answer>", "42", 1.0),
        ("<answer>0.5</answer>", "\\frac12", 1.0),
        ("1,234", 1234, 1.0),
        ("nothing", "42", 0.0),
        ("", "42", 0.0),
        ("42", "", None),
    ],
)
def test_what_equals_the_solution(text: str, solution: Any, score: float | None) -> None:
    assert registry.load("rewards", "accuracy")([text], solution=[solution]) == [score]


@pytest.mark.parametrize(
    ("solution", "wrong"),
    [
        ("2\\sqrt{3}", "2"), ("3\\pi", "3"), ("10^{5}", "10"), ("(-\\infty, 2]", "2"), ("1, 2", "2"), ("1,2", "1.2"),
        ("2x + 3", "2"), ("y = 2x + 3", "3"), ("-1 < x < 3", "3"), ("1 + i", "1"), ("3 \\frac{1}{2}", "\\frac{1}{2}"),
        ("50\\%", "7"), ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "2"), ("\\frac{1}{2}.", "2"),
        ("2\\sqrt{3}\\text{ cm}", "2"), ("\\pm 3", "3"),
    ],
)  # fmt: skip
def test_a_bare_expression_is_read_as_a_whole(solution: str, wrong: str) -> None:
    """As many datasets hold it, without dollars; a number in it was taken for the solution."""
    accuracy = registry.load("rewards", "accuracy")
    right = f"So it is \\boxed{{{solution.rstrip('.')}}}."
    tagged = f"<answer>{solution}</answer>"
    assert accuracy([right, tagged, f"\\boxed{{{wrong}}}"], solution=[solution] * 3) == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "solution", ["12 dollars", "The answer is 12", "It is 24/2", "12 cm", "12cm", "x = 12", "#### 12"]
)
def test_a_number_in_words_is_read_as_a_number(solution: str) -> None:
    assert registry.load("rewards", "accuracy")(["\\boxed{12}", "5"], solution=[solution] * 2) == [1.0, 0.0]


def test_a_comparison_that_takes_too_long_has_no_score(tmp_path: Path) -> None:
    """In the process where rewards run, while the others keep their scores; with and without the plugin's own alarm.
    It is counted, and no other reward's score stands alone as the answer's sum.
    """
    hard = "$" + "+".join(f"\\sqrt{{{n}}}^{{{n}^{{9}}}}" for n in range(2, 40)) + "$"
    texts, solutions = ["1", hard, "3"], ["1", hard.replace("2", "3", 1), "3"]
    start = time.monotonic()
    brief = {"accuracy": Reward(params={"seconds": 0.5}), "contains": Reward()}
    with Rewards(brief, [ROOT], max_failed=0.5) as rewards:
        scores = rewards.score(texts, {"solution": solutions, "expected": solutions})
        assert scores == {"accuracy": [1.0, None, 1.0], "contains": [1.0, 0.0, 1.0]}
        assert rewards.total(scores) == [2.0, None, 2.0]
        assert rewards.tallies["accuracy"].failed == 1
        assert rewards.tallies["accuracy"].first.endswith("took longer than seconds=0.5")
    with Rewards({"accuracy": Reward(params={"seconds": 100.0}, time_limit=3.0)}, [ROOT], max_failed=0.5) as rewards:
        assert rewards.score(texts, {"solution": solutions}) == {"accuracy": [1.0, None, 1.0]}
        assert rewards.tallies["accuracy"].failed == 1
    assert time.monotonic() - start < 60


def test_no_time_for_a_comparison_is_refused() -> None:
    """An alarm after 0 seconds is none at all."""
    with pytest.raises(ConfigError, match=r"reward.accuracy.params.seconds: 0 is no time for a comparison"):
        registry.load("rewards", "accuracy")(["1"], solution=["1"], seconds=0)


def test_cosine_fails_where_the_comparison_fails() -> None:
    """It said None, as where there is nothing to compare with."""
    texts, keys = ["\\boxed{10^{10^{10}}}", "5", "5"], {"solution": ["5", "5", ""], "completion_tokens": [1, 1, 1]}
    with Rewards({"cosine": Reward(params={"max_length": 10})}, [ROOT], max_failed=0.5) as rewards:
        failed, right, none = rewards.score(texts, keys)["cosine"]
        assert failed is None and right is not None and none is None
        assert rewards.tallies["cosine"].failed == 1


def test_a_comparison_that_raises_is_no_wrong_answer() -> None:
    """math_verify swallows what is raised and says unequal; but another reading of the two may still be equal."""
    texts, solutions = ["5", "5", "$\\frac{1}{0}$"], ["$\\frac{1}{0}$", "5", "$\\frac{1}{0}$"]
    with Rewards({"accuracy": Reward()}, [ROOT], max_failed=0.5) as rewards:
        assert rewards.score(texts, {"solution": solutions}) == {"accuracy": [None, 1.0, 1.0]}
        assert rewards.tallies["accuracy"].failed == 1
        assert "evaluate nan or zoo" in rewards.tallies["accuracy"].first
