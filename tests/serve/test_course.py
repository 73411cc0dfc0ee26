import pytest

from shoal.base import ConfigError
from shoal.serve.course import Course
from shoal.serve.messages import ModelPlan, Problem, Serving

ONE = ModelPlan({"1": "/1"}, {"1": 1.0})


@pytest.fixture
def course():
    made = Course()
    made.put({"m": ONE})
    return made


def tell(course, generation=1, rank=0, shares=None, problems=()):
    course.serving[rank] = Serving(generation, {"m": shares or {"1": 1.0}}, list(problems))


def test_nothing_is_reached_while_no_front_has_spoken(course):
    assert not course.is_reached


def test_each_plan_has_the_next_generation(course):
    assert course.put({"n": ONE}).generation == 2
    assert course.drop("m").models == {"n": ONE}


def test_a_plan_is_reached_once_every_front_that_is_there_says_so(course):
    tell(course)
    tell(course, rank=1, generation=0)

    assert not course.is_reached

    course.lose(1)

    assert course.is_reached


def test_a_server_is_started_once_all_fronts_listen(course):
    tell(course)
    tell(course, rank=1)
    course.listening.add(0)

    assert not course.is_started(range(2))

    course.listening.add(1)

    assert course.is_started(range(2))


def test_shares_in_another_order_are_not_the_plan():
    course = Course()
    course.put({"m": ModelPlan({"1": "/1", "2": "/2"}, {"2": 0.5, "1": 0.5})})

    tell(course, shares={"1": 0.5, "2": 0.5})

    assert not course.is_reached
    assert course.missing == {"m"}


def test_a_version_keeps_its_path(course):
    with pytest.raises(ConfigError, match=r"was served from /1, found /2"):
        course.put({"m": ModelPlan({"1": "/2"}, {"1": 1.0})})


def test_problems_are_those_of_the_newest_plan(course):
    old, new = (Problem("m", "1", text, "") for text in ("old", "new"))
    tell(course, problems=[new])
    tell(course, rank=1, generation=0, problems=[old])

    assert course.problems == [new]
