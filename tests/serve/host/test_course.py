import pytest

from shoal.base import ConfigError
from shoal.serve.host.course import Course, Outcome
from shoal.serve.links.messages import ModelPlan, Problem, Serving

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


def hear(course, generation, shares=None, problems=(), rank=0):
    course.hear(rank, Serving(generation, {} if shares is None else {"m": shares}, list(problems)))


def test_a_wish_is_fulfilled_once_every_front_has_come_to_it(course):
    hear(course, 1, {"1": 1.0})
    hear(course, 0, {"1": 1.0}, rank=1)

    # The second front routes so already, but has not seen the plan: it may be about to do something older.
    assert course.outcome("m", 1, is_wanted=True) is None

    hear(course, 1, {"1": 1.0}, rank=1)

    assert course.outcome("m", 1, is_wanted=True) == Outcome()


def test_an_unload_is_done_when_no_front_routes_to_the_model(course):
    dropped = course.drop("m").generation
    hear(course, dropped, {"1": 1.0})

    assert course.outcome("m", dropped, is_wanted=False) is None

    hear(course, dropped)

    assert course.outcome("m", dropped, is_wanted=False) == Outcome()


def test_without_a_front_nothing_is_done(course):
    assert course.outcome("m", 1, is_wanted=True) is None


def test_a_wish_is_overtaken_by_the_opposite_one_alone(course):
    newer = course.put({"m": ModelPlan({"2": "/2"}, {"2": 1.0})}).generation
    hear(course, newer, {"1": 1.0})

    assert course.outcome("m", 1, is_wanted=True) is None

    hear(course, newer, {"2": 1.0})

    assert course.outcome("m", 1, is_wanted=True) == Outcome()

    course.drop("m")

    assert course.outcome("m", 1, is_wanted=True) == Outcome(is_overtaken=True)


def test_why_a_plan_failed_is_known_after_it_was_taken_back(course):
    problem = Problem("m", "2", "it is cut", "mend it")
    bad = course.put({"m": ModelPlan({"2": "/2"}, {"2": 1.0})}).generation
    hear(course, bad, {"1": 1.0}, [problem])
    course.put({"m": ONE})

    assert course.outcome("m", bad, is_wanted=True) == Outcome(problem)


def test_a_problem_of_a_version_that_was_let_go_says_nothing(course):
    dropped = course.drop("m").generation
    hear(course, dropped, None, [Problem("m", "1", "too late", "")])

    assert course.outcome("m", dropped, is_wanted=False) == Outcome()


def test_failures_are_not_remembered_for_ever(course):
    for number in range(2, 100):
        version = str(number)
        generation = course.put({"m": ModelPlan({version: f"/{version}"}, {version: 1.0})}).generation
        hear(course, generation, {"1": 1.0}, [Problem("m", version, "broken", "")])

    assert len(course._failed) < 98
    assert course.outcome("m", generation, is_wanted=True).problem.version == "99"


def test_an_unloaded_model_keeps_its_place_and_what_a_path_without_a_name_means(course):
    course.put({"n": ONE})
    unloaded = course.drop("m", keeps_place=True)
    back = course.put({"m": ONE})

    assert (list(unloaded.models), unloaded.default) == (["n"], "m")
    assert (list(back.models), back.default) == (["m", "n"], "")


def test_a_model_that_is_gone_leaves_its_place(course):
    course.put({"n": ONE})
    gone = course.drop("m")
    back = course.put({"m": ONE})

    assert gone.default == ""
    assert list(back.models) == ["n", "m"]
