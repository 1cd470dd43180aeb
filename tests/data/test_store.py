"""Sequences in Arrow files come back as they were."""

import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.core.types import UNTRAINED, Encoded
from runner.data.gate import _unended
from runner.data.store import Stored, batch, runs, write


@st.composite
def encoded(draw: st.DrawFn) -> Encoded:
    """A sequence with labels of any kind."""
    ids = draw(st.lists(st.integers(0, 200_000), max_size=12))
    kept = draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    labels = [token if keep else UNTRAINED for token, keep in zip(ids, kept, strict=True)]
    weights = [0.1 * i for i in range(len(ids))] if draw(st.booleans()) else None
    values = draw(st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False), max_size=2))
    return Encoded(
        ids, labels, weights, draw(st.text()), draw(st.integers(0, 2**40)), len(ids), draw(st.text()), values
    )


@given(pieces=st.lists(st.lists(encoded(), max_size=4), max_size=4))
def test_round_trip(pieces: list[list[Encoded]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """In pieces of any size, empty ones too."""
    file = tmp_path_factory.mktemp("store") / "x.arrow"
    write(file, (batch(piece, range(len(piece))) for piece in pieces))
    whole = [sequence for piece in pieces for sequence in piece]
    stored = Stored(file)
    assert list(stored) == whole
    assert stored.lengths == [len(sequence.input_ids) for sequence in whole]
    assert stored.rows == [number for piece in pieces for number in range(len(piece))]
    assert list(stored.trained()) == [sum(label != UNTRAINED for label in sequence.labels) for sequence in whole]
    if whole:
        assert stored[-1] == whole[-1] and stored[:2] == whole[:2]


def test_a_reader_travels_to_another_process(tmp_path: Path) -> None:
    """It opens the file there."""
    sequence = Encoded([1, 2], [UNTRAINED, 2], None, "f", 3, 1, "text")
    write(tmp_path / "x.arrow", iter([batch([sequence], [7])]))
    again = pickle.loads(pickle.dumps(Stored(tmp_path / "x.arrow")))
    assert (list(again), again.rows) == ([sequence], [7])
    with pytest.raises(IndexError):
        again[1]


def test_runs() -> None:
    """Starts and ends of what is trained."""
    assert runs([]).to_pylist() == []
    held = [[], [UNTRAINED], [5, UNTRAINED, 5, 5], [5], [5, UNTRAINED]]
    assert runs(held).to_pylist() == [[], [], [0, 1, 2, 4], [0, 1], [0, 1]]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6), max_size=6))
def test_what_the_gate_looks_at_is_what_it_would_refuse(rows: list[list[tuple[int, bool]]]) -> None:
    """Found in the columns, in whatever batches, the same as by looking at each sequence."""
    made = [Encoded([t for t, _ in row], [t if on else UNTRAINED for t, on in row], None) for row in rows]
    with TemporaryDirectory() as folder:
        write(Path(folder) / "x.arrow", (batch(made[i : i + 2], range(len(made[i : i + 2]))) for i in range(0, 6, 2)))
        found = list(Stored(Path(folder) / "x.arrow").suspects([0, 3]))
    untrained = [one for one in made if all(label == UNTRAINED for label in one.labels)]
    refused = [one for one in made if one in untrained or _unended(one, {0, 3}) is not None]
    assert found == refused
