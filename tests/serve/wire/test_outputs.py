import numpy as np

from shoal.serve.wire.outputs import BatchOutputs

SCORES = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_each_request_gets_its_own_rows():
    batch = BatchOutputs([SCORES], batched=True)

    first, second = batch.rows(0, 1), batch.rows(1, 4)

    assert (first.shape(0), first.numbers(0)) == ((1, 3), [0, 1, 2])
    assert (second.shape(0), second.numbers(0)) == ((3, 3), list(range(3, 12)))
    np.testing.assert_array_equal(second.array(0), SCORES[1:])


def test_one_number_per_row_is_a_list_too():
    request = BatchOutputs([np.array([7, 8])], batched=True).rows(1, 2)

    assert (request.shape(0), request.numbers(0)) == ((1,), [8])


def test_a_model_without_batches_gives_everything_to_its_one_request():
    request = BatchOutputs([SCORES], batched=False).rows(0, 1)

    assert request.shape(0) == (4, 3)
    assert request.numbers(0) == list(range(12))
    np.testing.assert_array_equal(request.array(0), SCORES)


def test_only_the_request_with_the_bad_row_is_not_finite():
    scores = SCORES.copy()
    scores[2, 1] = np.nan
    batch = BatchOutputs([scores], batched=True)

    assert [batch.rows(row, row + 1).is_finite(0) for row in range(4)] == [True, True, False, True]


def test_the_values_stay_when_the_replica_writes_again():
    shared = SCORES.copy()
    request = BatchOutputs([shared], batched=True).rows(0, 1)

    shared[:] = -1

    assert request.numbers(0) == [0, 1, 2]


def test_what_belongs_to_nobody_else_is_not_copied():
    assert BatchOutputs([SCORES], batched=True, copies=False).arrays[0] is SCORES
