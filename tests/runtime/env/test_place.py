import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import ConfigError
from shoal.runtime.env.place import NUM_PORTS, Place, first_host, place_in_job

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "job",
    "TORCHELASTIC_RESTART_COUNT": "1",
}
SLURM = {
    "SLURM_PROCID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "gpu[07-09]",
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
}


def test_torchrun_says_where_a_rank_is():
    assert place_in_job(TORCHRUN) == Place(rank=3, size=4, address="node1", port=29500, job="job/1")


def test_torchrun_inside_a_slurm_job_is_believed_first():
    assert place_in_job({**SLURM, **TORCHRUN}).size == 4


def test_slurm_says_where_a_rank_is():
    place = place_in_job(SLURM)

    assert (place.rank, place.size, place.address, place.job) == (1, 2, "gpu07", "slurm 4711.0")


def test_an_address_given_by_hand_is_taken():
    place = place_in_job({**SLURM, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"})

    assert (place.address, place.port) == ("10.0.0.1", 1234)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("a,b,c", "a"),
        ("n[3,5-9]", "n3"),
        ("rack[01-03]-gpu,x", "rack01-gpu"),
        ("gpu[007-012,20],login1", "gpu007"),
    ],
)
def test_the_first_host_of_a_list_is_found(nodes, first):
    assert first_host(nodes) == first


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, "neither RANK"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR"),
        ({**TORCHRUN, "WORLD_SIZE": "many"}, "WORLD_SIZE='many'"),
        ({**TORCHRUN, "RANK": "4"}, "rank 4 of 4"),
        ({**SLURM, "SLURM_STEP_NODELIST": "[]"}, "list of nodes"),
    ],
)
def test_a_place_that_is_none_is_refused(variables, found):
    with pytest.raises(ConfigError, match=found.replace("[", r"\[")):
        place_in_job(variables)


@given(job_id=st.integers(1, 10**9))
def test_every_rank_of_a_job_finds_the_same_door_and_no_other_jobs(job_id):
    ranks = [place_in_job({**SLURM, "SLURM_JOB_ID": str(job_id), "SLURM_PROCID": str(rank)}) for rank in (0, 1)]
    other = place_in_job({**SLURM, "SLURM_JOB_ID": str(job_id + 1)})

    assert ranks[0].token == ranks[1].token != other.token
    assert ranks[0].ports == ranks[1].ports
    assert len(ranks[0].ports) == NUM_PORTS
    assert 1024 < ranks[0].ports[0] < ranks[0].ports[-1] < 65536
