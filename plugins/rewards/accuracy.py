"""1 where the answer equals the solution mathematically, 0 elsewhere, by math_verify (extra: math).

Column: `solution`, a number, LaTeX with or without signs of where it begins, or a worked solution whose result is in
\\boxed{} or after ####. The answer is what stands in <answer> tags, else what comes after the thoughts; a thought that
never ends has none. No score, instead of 0, where the solution cannot be read. A comparison that takes longer than
`seconds` or raises has failed.
"""

import logging
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from runner.api import ConfigError, answer

try:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify  # type: ignore[import-untyped,import-not-found,unused-ignore]
except ImportError as error:
    raise ImportError(f"{error}; install it: pip install math-verify, or the extra: math") from None

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own alarms are off: ours are on

_FORMS = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
_MARKED = re.compile(r"\$|\\\(|\\\[|\\boxed|\\fbox")  # where mathematics begin
_BEYOND_A_NUMBER = re.compile(r"[\\^_=<>+*/()\[\]]|\d[a-z]|,(?!\d{3}\b)")
_IN_WORDS = re.compile(r"\\(?:text|mathrm|begin|end)\{[^}]*\}")
_WORD = re.compile(r"(?<![\w\\])(?!(?:sin|cos|tan|log|ln|exp|sqrt|pi)\b)[^\W\d_]{2,}")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


class _OutOfTime(BaseException):
    """Not an Exception: sympy and math_verify catch those and would go on without an alarm."""


def accuracy(completions: list[str], *, solution: list[Any], seconds: float = 5.0) -> list[float | Exception | None]:
    """Score each answer 1.0, 0.0 or None; an exception where the comparison failed.

    Args:
        seconds: that a comparison may take, in the main thread, where alarms work; rewards run there.
    """
    if seconds <= 0:
        raise ConfigError("reward.accuracy.params.seconds", f"{seconds:g} is no time for a comparison", "Take 5.")
    return [_scored(completion, gold, seconds) for completion, gold in zip(completions, solution, strict=True)]


def _scored(completion: str, gold: Any, seconds: float) -> float | Exception | None:
    try:
        with _alarm(seconds):
            return _equal(_given(completion), gold)
    except _OutOfTime:
        return TimeoutError(f"the comparison with the solution took longer than seconds={seconds:g}")
    except Exception as error:  # noqa: BLE001 - the others keep their scores
        return error


def _given(completion: str) -> str:
    text = answer(completion)
    tagged = _TAGGED.findall(text)
    return str(tagged[-1]) if tagged else text


def _equal(given: str, gold: Any) -> float | None:
    expected = _read(str(gold).rpartition("####")[2].strip())
    if not expected:
        return None
    found = _read(given)
    try:
        return float(verify(expected, found, timeout_seconds=None, raise_on_error=True))
    except Exception:
        if verify(expected, found, timeout_seconds=None):  # another reading of the two is equal
            return 1.0
        raise


def _read(text: str) -> list[Any]:
    """What the text comes to; a boxed result counts more than others."""
    whole = f"${text.rstrip(' .')}$"
    first, second = (whole, text) if _bare(text) else (text, whole)
    return list(parse(first, _FORMS, parsing_timeout=None) or parse(second, _FORMS, parsing_timeout=None))


def _bare(text: str) -> bool:
    r"""Whether all of it is an expression, as 2\sqrt{3}: of a text, math_verify would take a number alone, here 2."""
    if _MARKED.search(text) or not _BEYOND_A_NUMBER.search(text):
        return False
    return not _WORD.search(_IN_WORDS.sub("", text))


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise _OutOfTime

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
