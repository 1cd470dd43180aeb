"""What must not be cut apart when an update is cut into micro-batches."""

from runner.training.planned import units

ROWS = [7, 8, 7, 8, 9]


def test_sequences_stand_alone():
    assert units([0, 1, 2], ROWS, whole_rows=False) == [(0,), (1,), (2,)]


def test_sequences_of_a_row_stay_together():
    assert units([0, 1, 2, 3, 4], ROWS, whole_rows=True) == [(0, 2), (1, 3), (4,)]
