from contextvars import copy_context

from shoal.train.worker.micro_batch import present_number, set_number


def test_the_number_is_the_one_said_last():
    def say():
        before = present_number()
        set_number(4)
        return before, present_number()

    assert copy_context().run(say)[1] == 4
