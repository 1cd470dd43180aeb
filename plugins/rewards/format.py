"""1 where the whole completion is `<think>…</think>` and then `<answer>…</answer>`, each once; 0 elsewhere."""

import re

_FORM = re.compile(r"\s*<think>(?:(?!</?think>).)*</think>\s*<answer>(?:(?!</?answer>).)*</answer>\s*", re.DOTALL)


def format(completions: list[str], *, answer_tags: bool = True) -> list[float | None]:
    """Score each completion 1.0 or 0.0.

    Args:
        answer_tags: whether the answer must stand in tags; without, any text after the thoughts will do.
    """
    if answer_tags:
        return [float(_FORM.fullmatch(text) is not None) for text in completions]
    return [float(_thinks_once(text)) for text in completions]


def _thinks_once(text: str) -> bool:
    thoughts, closed, rest = text.strip().partition("</think>")
    once = "</think>" not in rest and "<think>" not in rest and thoughts.count("<think>") == 1
    return bool(closed and thoughts.startswith("<think>") and rest.strip() and once)
