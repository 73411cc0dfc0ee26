import subprocess
import sys

from shoal.serve.host.line_pipe import LinePipe, line_pipe_path


def test_lines_of_other_processes_appear_on_stderr(tmp_path, capsys):
    pipe = LinePipe(line_pipe_path(tmp_path))
    program = f"""
import os
pipe = os.open({str(pipe.path)!r}, os.O_WRONLY)
for number in range(100):
    os.write(pipe, b'{{"n": %d, "city": "\\xc5\\x81"}}\\n' % number)
"""

    done = subprocess.run([sys.executable, "-c", program], timeout=60)
    pipe.close()
    pipe.close()

    assert done.returncode == 0
    assert capsys.readouterr().err.splitlines() == [f'{{"n": {number}, "city": "Ł"}}' for number in range(100)]


def test_a_stderr_that_is_gone_holds_up_no_writer(tmp_path, monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

    pipe = LinePipe(tmp_path / "pipe")
    monkeypatch.setattr("sys.stderr", Gone())

    with pipe.path.open("wb") as writer:
        # More than the pipe holds.
        for _ in range(40):
            writer.write(b"x" * 4000 + b"\n")
            writer.flush()

    pipe.close()
