import pickle

from shoal.runtime.answers import DONE, RAISED
from shoal.runtime.pool_member import run_tasks
from shoal.testing import members


class FakeContext:
    def __init__(self, *tasks):
        self.tasks = [pickle.dumps(task) for task in tasks]
        self.reports = []

    def receive(self):
        return self.tasks.pop(0) if self.tasks else None

    def report(self, message):
        self.reports.append(message)


def test_each_task_gets_one_answer_in_order():
    context = FakeContext(
        (members.divide, (4, 2), {}), (members.divide, (1, 0), {}), (members.divide, (), {"a": 9, "b": 3})
    )

    run_tasks(context)

    assert [report[:1] for report in context.reports] == [DONE, RAISED, DONE]
    assert pickle.loads(context.reports[0][1:]) == 2
    assert pickle.loads(context.reports[2][1:]) == 3


def test_an_error_is_answered_in_words_and_as_itself():
    context = FakeContext((members.divide, (1, 0), {}))

    run_tasks(context)

    summary, text, cause = pickle.loads(context.reports[0][1:])
    assert summary == "ZeroDivisionError: division by zero"
    assert "in divide" in text
    assert "pool_member" not in text
    assert isinstance(pickle.loads(cause), ZeroDivisionError)


def test_a_task_that_cannot_be_read_is_answered_too():
    context = FakeContext()
    context.tasks = [b"no pickle"]

    run_tasks(context)

    assert context.reports[0][:1] == RAISED
