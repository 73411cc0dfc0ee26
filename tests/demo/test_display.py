import shoal.store
from shoal.demo.display import Display, follow_training


def test_a_line_is_one_line_however_long(display, console):
    display.line("traffic", "word " * 60)

    assert console.export_text().count("\n") == 1


def test_without_a_terminal_there_is_no_spinner(display, console):
    with display.working("busy"):
        display.update("busier")

    assert console.export_text() == ""


def test_the_live_line_follows_the_run_that_the_store_tells_of(tmp_path):
    seen = _Seen()

    with (
        shoal.store.open(tmp_path / ".shoal") as store,
        follow_training(seen, store),
        store.runs.start(kind="train", name="plain", config={}) as run,
    ):
        run.metric("train.loss", 0.25, 40)
        run.flush()
        seen.wait_for("step 40")

    assert f"{run.id} plain: step 40  loss 0.250" in seen.text


class _Seen(Display):
    def __init__(self):
        import threading

        self.text = ""
        self.changed = threading.Condition()

    def update(self, text):
        with self.changed:
            self.text = text
            self.changed.notify_all()

    def wait_for(self, part):
        with self.changed:
            assert self.changed.wait_for(lambda: part in self.text, timeout=20)
