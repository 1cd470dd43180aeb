"""Takes away from answers that repeat themselves: `max_penalty` times the share of n-grams that came before (Yeo et al.
2025, arXiv 2502.03373). Words are the units, and single characters in scripts that put no spaces between words.
"""

import re

from runner.api import ConfigError

_UNIT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


def repetition(completions: list[str], *, n: int = 3, max_penalty: float = -1.0) -> list[float | None]:
    """Score each completion between `max_penalty` and 0.0; what is shorter than n units repeats nothing."""
    if n < 1:
        raise ConfigError("reward.repetition.params.n", f"{n} units make no n-gram", "Take 3.")
    return [0.0 + max_penalty * _repeated(text, n) for text in completions]  # 0, not -0


def _repeated(text: str, n: int) -> float:
    units = _UNIT.findall(text.lower())
    grams = [tuple(units[at : at + n]) for at in range(len(units) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
