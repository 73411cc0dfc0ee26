from pathlib import Path

from shoal.base import File, NullRecorder, Recorder, Ref, digest_bytes


def test_ref_keeps_a_handles_words(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"1")

    assert Ref.of(File(tmp_path / "f")) == Ref("file", str(tmp_path / "f"), digest_bytes(b"1"))


def test_null_recorder_takes_everything():
    recorder: Recorder = NullRecorder()
    ref = Ref("file", "a", "b3:0")

    recorder.metric("loss", 0.5, 1)
    recorder.event("done", rows=3)
    recorder.lineage(ref, ref, "copy")
