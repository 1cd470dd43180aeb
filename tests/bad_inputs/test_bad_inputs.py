"""One table of bad inputs, a row a case: rows, models, plugins, folders. The exit code, and the sentence with its fix.

Mistakes of keys and values have a table of their own in tests/cli/test_mistakes.py.
"""

import shlex

import pytest

from tests.bad_inputs import answers, engines, folders, judged, models, plugins, pushes, rl, rows
from tests.user import User

CASES = {
    **rows.CASES,
    **models.CASES,
    **plugins.CASES,
    **folders.CASES,
    **engines.CASES,
    **pushes.CASES,
    **answers.CASES,
    **rl.CASES,
    **judged.CASES,
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(user: User, name: str) -> None:
    """The exit code and one sentence."""
    case = CASES[name]
    if case.rows is not None:
        user.write("rows.jsonl", case.rows)
    for file, text in case.files:
        user.write(file, text)
    if case.harm is not None:
        case.harm(user)
    code, told = user.tell(*shlex.split(case.words))
    assert case.sentence.replace("{root}", str(user.root)) in told
    assert code == case.code
    assert "Traceback" not in told or case.code == 1  # a reward that raised is shown as it raised
