import h2.config
import h2.connection
import hyperframe.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.grpc import frames
from shoal.serve.grpc.frames import BrokenError, Code, FrameReader


def read(reader, data):
    return list(reader.feed(data))


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=70))),
       st.integers(1, 50))  # fmt: skip
def test_frames_come_back_however_they_were_cut(sent, step):
    data = frames.PREFACE + b"".join(frames.frame(*each) for each in sent)
    reader = FrameReader(max_frame_bytes=100)

    found = [each for at in range(0, len(data), step) for each in read(reader, data[at : at + step])]

    assert found == sent
    assert not reader.is_inside


def test_what_another_implementation_sends_is_read():
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    client.send_headers(1, [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "a")])
    client.send_data(1, b"abc", end_stream=True, pad_length=3)

    kinds = {kind: (flags, payload) for kind, flags, _, payload in
             read(FrameReader(max_frame_bytes=1000), client.data_to_send())}  # fmt: skip

    assert set(kinds) == {frames.SETTINGS, frames.HEADERS, frames.DATA}
    assert frames.unpad(*kinds[frames.DATA]) == b"abc"
    assert kinds[frames.DATA][0] & frames.END_STREAM


def test_our_frames_are_read_by_another_implementation():
    sent = [frames.settings({frames.MAX_FRAME_SIZE: 20_000}), frames.window_update(3, 77),
            frames.rst_stream(5, Code.CANCEL), frames.goaway(9, Code.NO_ERROR, "bye")]  # fmt: skip

    found = []
    for data in sent:
        frame, length = hyperframe.frame.Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9:]))
        assert length == len(data) - 9
        found.append(frame)

    assert found[0].settings == {frames.MAX_FRAME_SIZE: 20_000}
    assert (found[1].stream_id, found[1].window_increment) == (3, 77)
    assert (found[2].stream_id, found[2].error_code) == (5, Code.CANCEL)
    assert (found[3].last_stream_id, found[3].additional_data) == (9, b"bye")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX", b"\x16\x03\x01"])
def test_another_protocol_is_known_at_once(data):
    with pytest.raises(BrokenError) as caught:
        read(FrameReader(max_frame_bytes=100), data)

    assert caught.value.code == Code.PROTOCOL_ERROR


def test_a_long_frame_is_refused_before_it_comes():
    with pytest.raises(BrokenError) as caught:
        read(FrameReader(max_frame_bytes=100), frames.PREFACE + b"\x00\x00\x65" + bytes(6))

    assert caught.value.code == Code.FRAME_SIZE_ERROR


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({frames.ENABLE_PUSH: 2}, Code.PROTOCOL_ERROR),
        ({frames.INITIAL_WINDOW_SIZE: 1 << 31}, Code.FLOW_CONTROL_ERROR),
        ({frames.MAX_FRAME_SIZE: 16_383}, Code.PROTOCOL_ERROR),
        ({frames.MAX_FRAME_SIZE: 1 << 24}, Code.PROTOCOL_ERROR),
    ],
)
def test_settings_beyond_their_limits_are_refused(values, code):
    with pytest.raises(BrokenError) as caught:
        frames.read_settings(frames.settings(values)[9:])

    assert caught.value.code == code


def test_cut_payloads_are_refused():
    for wrong in (lambda: frames.read_settings(b"12345"), lambda: frames.read_number(b"123", "RST_STREAM")):
        with pytest.raises(BrokenError) as caught:
            wrong()
        assert caught.value.code == Code.FRAME_SIZE_ERROR


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x05abcd"])
def test_a_padding_longer_than_its_frame_is_refused(payload):
    with pytest.raises(BrokenError) as caught:
        frames.unpad(frames.PADDED, payload)

    assert caught.value.code == Code.PROTOCOL_ERROR
