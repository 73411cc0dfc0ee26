import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import InputError
from shoal.train.logbook import MAX_NAMES, Logbook, collecting, log, merge_books
from shoal.train.metrics import Mean

values = st.lists(st.tuples(st.floats(-1e9, 1e9), st.integers(1, 64)), min_size=1, max_size=30)


def filled(pairs):
    book = Logbook()
    for mean, num_rows in pairs:
        book.add("a", Mean.over(mean, num_rows))
    return book


@given(values, st.randoms(), st.integers(1, 5))
def test_who_logged_what_changes_no_bit(pairs, shuffler: random.Random, num_members):
    alone = merge_books([filled(pairs).pack()])
    shuffler.shuffle(pairs)

    books = [filled(pairs[member::num_members]) for member in range(num_members)]

    assert merge_books([book.pack() for book in books]) == alone


def test_an_infinite_loss_stays_one():
    merged = merge_books([filled([(math.inf, 2)]).pack(), filled([(1.0, 2)]).pack()])

    assert merged["a"].value == math.inf


def test_a_plain_number_weighs_the_rows_of_its_micro_batch():
    book = Logbook()

    for value, num_rows in ((1.0, 3), (torch.tensor(5.0), 1)):
        with collecting(book, num_rows, at_once=True):
            log("a", value)

    assert merge_books([book.pack()]) == {"a": Mean(8.0, 4.0)}


def test_a_measure_keeps_its_own_weight():
    book = Logbook()

    with collecting(book, 3, at_once=True):
        log("a", Mean(1.0, 2.0))

    assert merge_books([book.pack()]) == {"a": Mean(1.0, 2.0)}


def test_a_step_that_is_not_done_leaves_nothing():
    book = Logbook()

    for outcome in (book.discard, book.commit):
        with collecting(book, 1, at_once=False):
            log("a", 7.0)
        outcome()

    assert merge_books([book.pack()]) == {"a": Mean(7.0, 1.0)}


def test_outside_training_nothing_happens():
    log("a", 1.0)


def test_what_is_no_number_is_refused():
    with collecting(Logbook(), 1, at_once=True), pytest.raises(InputError, match=r"log 'a': found \(2,\)"):
        log("a", torch.zeros(2))


def test_names_without_end_are_refused():
    book = Logbook()
    for number in range(MAX_NAMES):
        book.add(f"loss_at_{number}", Mean(1, 1))

    with pytest.raises(InputError, match="same few names"):
        book.add("one_more", Mean(1, 1))
