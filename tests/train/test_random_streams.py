from shoal.train.random_streams import stream_seed


def test_neighbours_get_streams_of_their_own():
    seeds = {stream_seed(seed, step, part) for seed in range(4) for step in range(16) for part in range(16)}

    assert len(seeds) == 4 * 16 * 16


def test_a_stream_is_the_same_for_ever():
    assert stream_seed(3, 5, 7) == stream_seed(3, 5, 7)
    assert stream_seed(3 + (1 << 64), 5, 7) == stream_seed(3, 5, 7)
