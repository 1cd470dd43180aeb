"""Which differences between an adapter and the merged model are rounding, and which mean that the adapter is lost."""

from typing import Any

import pytest

from runner.models.agreement import Agreement, _prompt
from tests.tiny import tiny_tokenizer


@pytest.mark.parametrize(
    ("difference", "adapter", "good"),
    [
        (0.049, 0.049, False),  # the base itself
        (0.046, 0.049, False),  # and with a little rounding
        (0.03, 0.03, False),
        (0.005, 0.03, True),
        (0.03, 0.9, True),
        (0.06, 0.9, False),
        (0.006, 0.004, True),  # an adapter of one small update: less than rounding
        (0.0, 0.0, True),
        (float("nan"), 0.9, False),
    ],
)
def test_a_merged_model_is_nearer_to_the_adapter_than_the_base(difference: float, adapter: float, good: bool) -> None:
    assert Agreement(0.6, difference, adapter).good("bfloat16") is good


def test_how_near_depends_on_the_type() -> None:
    assert not Agreement(1.0, 9e-4, 9e-4).good("float32") and Agreement(1.0, 2.5e-7, 9e-4).good("float32")
    assert Agreement(1.0, 1.4e-5, 1.4e-5).good("float16") and not Agreement(1.0, 9e-3, 9e-3).good("float16")


@pytest.mark.parametrize("template", ["{{ raise_exception('no') }}", "{% for x in %}", {"rag": "{{ messages }}"}])
def test_a_template_that_takes_no_question_is_left_out(template: Any) -> None:
    """Whether a merged model answers alike can be seen without one."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    assert _prompt(tokenizer, "Who are you?") == tokenizer("Who are you?")["input_ids"]
