import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from shoal.train.group import waiting
from shoal.train.group.waiting import COUNTER_BYTES, raise_to, wait_for

HEADER = Path(waiting.__file__).parent

# Two threads that hand a plain number to and fro: a missing order of memory would be a race on it.
RACE = """
#include "_waiting.h"
#include <pthread.h>
#include <stdio.h>

static Counter counters[2];
static long plain;

static void *take_turns(void *argument) {
    long own = (long)argument;
    for (uint64_t turn = 1; turn <= 20000; turn++) {
        if ((long)(turn & 1) == own) plain++;
        raise_counter(&counters[own], turn);
        while (!await_counter(&counters[1 - own], turn, 0, now_ns() + 1000000)) continue;
    }
    return NULL;
}

int main(void) {
    pthread_t other;
    pthread_create(&other, NULL, take_turns, (void *)1);
    take_turns((void *)0);
    pthread_join(other, NULL);
    printf("%ld\\n", plain);
    return 0;
}
"""


@pytest.fixture(params=["compiled", "pure"])
def way(request, monkeypatch):
    if request.param == "pure":
        monkeypatch.setattr(waiting, "native", None)
    elif waiting.native is None:
        pytest.skip("there was no compiler")


@pytest.mark.usefixtures("way")
def test_a_value_is_awaited_until_all_have_reached_it():
    memory = np.zeros(3 * 64, np.uint8)
    others = [threading.Thread(target=raise_to, args=(memory, 64 * place, 7 + place)) for place in range(3)]

    assert not wait_for(memory, 64, 3, 7, spin_s=0, timeout_s=0.01)
    for other in others:
        other.start()
    assert wait_for(memory, 64, 3, 7, spin_s=0.001, timeout_s=60)
    assert not wait_for(memory, 64, 3, 8, spin_s=0.001, timeout_s=0.01)


@pytest.mark.usefixtures("way")
def test_members_that_take_turns_see_what_was_written_before():
    memory = np.zeros(2 * COUNTER_BYTES, np.uint8)
    seen = []

    def member(own):
        for turn in range(1, 200):
            if turn % 2 == own:
                seen.append(turn)
            raise_to(memory, own * COUNTER_BYTES, turn)
            while not wait_for(memory, COUNTER_BYTES, 2, turn, spin_s=0, timeout_s=0.01):
                pass

    other = threading.Thread(target=member, args=(1,))
    other.start()
    member(0)
    other.join()

    assert seen == list(range(1, 200))


@pytest.mark.skipif(waiting.native is None, reason="there was no compiler")
@pytest.mark.parametrize("arguments", [(8, 1, 1), (4, 2, 1), (0, 1, 1), (16, 0, 1), (-16, 2, 1)])
def test_counters_outside_the_memory_are_refused(arguments):
    with pytest.raises(ValueError, match="counter"):
        waiting.native.wait_for(np.zeros(8 if arguments[0] == 8 else 16, np.uint8), *arguments, 0, 0)
    with pytest.raises(ValueError, match="no counter"):
        waiting.native.raise_to(np.zeros(16, np.uint8), 8, 1)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_the_compiled_part_passes_the_sanitizers(tmp_path, sanitizer):
    source, program = tmp_path / "race.c", tmp_path / "race"
    source.write_text(RACE)
    command = ["cc", "-g", "-O1", "-Wall", "-Wextra", "-Werror", f"-fsanitize={sanitizer}", f"-I{HEADER}"]
    built = subprocess.run([*command, str(source), "-o", str(program), "-pthread"], capture_output=True, text=True)
    if built.returncode and "cannot find" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr

    done = subprocess.run([str(program)], capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, "20000\n", "")
