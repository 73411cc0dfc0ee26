import os
import signal

import psutil
import pytest

from shoal.runtime import Code, Exited, Member, Report, Resources, Started, open_runtime
from shoal.testing import members
from shoal.testing.gang import LONG_S, next_report

pytestmark = pytest.mark.cluster


@pytest.fixture
def runtime(ray_cluster):
    return open_runtime("ray")


def report_place(context):
    import ray

    context.report({"threads": os.environ["OMP_NUM_THREADS"], "keeper": os.getppid(), "ray": ray.__name__})
    context.receive()


def stay_on_node(context):
    context.report("ready")
    context.stopping.wait()


def next_exit(gang):
    return next(event for event in gang.events(LONG_S) if isinstance(event, Exited))


def test_members_of_one_gang_use_several_nodes(runtime):
    code, need = Code.of(report_place), Resources(cpus=2)

    with runtime.gang({"worker": (code, 2, need)}, environment={"OMP_NUM_THREADS": "3"}) as gang:
        said = [next_report(gang).message for _ in range(2)]

    assert {words["threads"] for words in said} == {"3"}
    assert len({words["keeper"] for words in said}) == 2


def test_a_killed_actor_takes_its_member_along_and_is_told(runtime):
    with runtime.gang(
        {"worker": (Code.of(report_place), 2, Resources())}, environment={"OMP_NUM_THREADS": "1"}
    ) as gang:
        keepers = {report.member.rank: report.message["keeper"] for report in (next_report(gang), next_report(gang))}
        member = psutil.Process(gang.pids[Member("worker", 1)])
        os.kill(keepers[1], signal.SIGKILL)
        end = next_exit(gang)
        member.wait(LONG_S)
        (added,) = gang.add("worker")
        answer = next_report(gang)

    assert end.member == Member("worker", 1)
    assert end.signal == signal.SIGKILL
    assert "lost" in end.failure.message
    assert answer.member == added == Member("worker", 2)


def test_a_killed_node_takes_its_members_along_and_the_gang_goes_on_elsewhere(ray_cluster, runtime):
    node = ray_cluster.add_node(num_cpus=2, resources={"doomed": 1})
    with runtime.gang({"worker": (Code.of(stay_on_node), 3, Resources(cpus=2))}) as gang:
        for _ in range(3):
            next_report(gang)
        ray_cluster.remove_node(node, allow_graceful=False)
        spare = ray_cluster.add_node(num_cpus=2)
        end = next_exit(gang)
        (added,) = gang.add("worker")
        born = next(event for event in gang.events(LONG_S) if isinstance(event, Started))
        num_running = len(gang.pids)
    ray_cluster.remove_node(spare)

    assert end.signal == signal.SIGKILL
    assert end.failure is not None
    assert born.member == added == Member("worker", 3)
    assert num_running == 3


def test_members_do_not_outlive_a_driver_that_is_killed(ray_cluster, start_python):
    driver = start_python(
        f"""
        import ray
        ray.init(address={ray_cluster.address!r}, log_to_driver=False, namespace="shoal")
        from shoal.runtime import Code, Report, Resources, open_runtime
        from shoal.testing import members
        with open_runtime("ray").gang({{"worker": (Code.of(members.ignore_stop), 2, Resources())}}) as gang:
            for _ in range(2):
                next(event for event in gang.events() if isinstance(event, Report))
            print(*gang.pids.values(), flush=True)
            for _ in gang.events():
                pass
        """
    )
    processes = [psutil.Process(int(pid)) for pid in driver.stdout.readline().split()]

    driver.kill()

    assert len(processes) == 2
    assert psutil.wait_procs(processes, timeout=LONG_S)[1] == []


def test_a_gang_waits_for_room_that_another_holds(runtime, caplog, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    from shoal.runtime.ray import placing

    monkeypatch.setattr(placing, "_PROGRESS_S", 0.2)
    need = Resources(cpus=2)
    with ThreadPoolExecutor(1) as pool, runtime.gang({"worker": (Code.of(members.echo), 2, need)}) as first:
        waiting = pool.submit(runtime.gang, {"worker": (Code.of(members.introduce), 2, need)})
        while "waiting for room" not in caplog.text:
            assert not waiting.done()
        first.stop()
        with waiting.result() as second:
            said = [event for event in second.events() if isinstance(event, Report)]

    assert len(said) == 2
