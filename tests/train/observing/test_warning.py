import warnings

import pytest

from shoal.train.observing.warning import warn


def test_a_warning_points_at_who_called():
    with pytest.warns(RuntimeWarning, match="the disk is slow") as told:
        warn("the disk is slow")

    assert told[0].filename == __file__


def test_where_warnings_are_errors_it_is_written_and_nothing_raised(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        warn("the disk is slow")

    assert "the disk is slow" in capsys.readouterr().err
