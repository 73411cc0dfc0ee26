def test_moments_keep_their_distances_by_the_wall_clock(make_passage):
    passage = make_passage()

    assert passage.wall_ns(passage.answered_s) == round(passage.time_s * 1e9)
    assert passage.wall_ns(passage.answered_s) - passage.wall_ns(passage.started_s) == 10_000_000


def test_a_request_that_nothing_was_predicted_for_has_no_run(make_passage):
    assert make_passage(ran=None).trace is None
