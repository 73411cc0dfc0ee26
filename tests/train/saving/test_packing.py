import pickle

import pytest
import torch

from shoal.base import CorruptError, InputError, UnsupportedError
from shoal.train.saving.packing import MODEL_FILE, PROGRESS_FILE, StateLayout, pack_state, unpack_state
from shoal.train.saving.tensor_file import read_tensors


def step_on(state):
    torch.manual_seed(9)
    for param in state.module.parameters():
        param.grad = torch.randn_like(param)
    for optimizer in state.optimizers:
        optimizer.step()
    state.schedulers[0].step()
    state.schedulers[1].step(0.5)


def test_a_newcomer_gets_everything(make_state):
    old = make_state(7)
    new = make_state(0, seed=5, trained=False)

    unpack_state(pack_state(old), new)

    assert torch.equal(pack_state(new), pack_state(old))
    assert new.position == old.position
    assert new.extras["batch_size"] == {"now": 64, "since": (3, 4), "best": float("inf")}
    assert new.module[4].weight.dtype == torch.bfloat16


def test_both_go_on_with_the_same_bits(make_state):
    old = make_state(7)
    new = make_state(0, seed=5, trained=False)
    unpack_state(pack_state(old), new)

    step_on(old)
    step_on(new)

    assert torch.equal(pack_state(new), pack_state(old))


def test_the_bytes_may_be_reused_afterwards(make_state):
    new = make_state(trained=False)
    data = pack_state(make_state(3))
    unpack_state(data, new)
    before = pack_state(new)

    data.fill_(255)

    assert torch.equal(pack_state(new), before)


def test_a_state_that_has_moved_on_is_taken_back(make_state):
    state = make_state(3)
    data = pack_state(state)
    step_on(state)
    state.extras["new"] = {"a": 1}
    extras = state.extras

    unpack_state(data, state)

    assert torch.equal(pack_state(state), data)
    assert state.extras is extras


def test_a_snapshot_is_of_its_instant(make_state):
    state = make_state(3)
    data = pack_state(state)
    before = data.clone()

    step_on(state)

    assert torch.equal(data, before)


def test_what_a_module_keeps_beside_tensors_comes_back(make_state):
    class Counting(torch.nn.Linear):
        seen = 0

        def get_extra_state(self):
            return {"seen": self.seen}

        def set_extra_state(self, state):
            self.seen = state["seen"]

    old, new = make_state(), make_state(trained=False)
    old.module.append(Counting(2, 2))
    new.module.append(Counting(2, 2))
    old.module[-1].seen = 12

    unpack_state(pack_state(old), new)

    assert new.module[-1].seen == 12


def test_the_files_are_those_that_any_reader_opens(state):
    layout = StateLayout.of(state)

    files = layout.write(torch.empty(layout.size_bytes + 100, dtype=torch.uint8)).files()

    assert set(files) == {MODEL_FILE, PROGRESS_FILE}
    weights, metadata, _ = read_tensors(torch.frombuffer(bytearray(files[MODEL_FILE]), dtype=torch.uint8))
    assert metadata == {"format": "pt"}
    assert {name: value.tolist() for name, value in weights.items()} == {
        name: value.tolist() for name, value in state.module.state_dict().items()
    }


def test_another_model_is_refused(make_state):
    with pytest.raises(InputError, match="size mismatch"):
        unpack_state(pack_state(make_state()), make_state(width=9))


def test_another_number_of_optimisers_is_refused(make_state):
    other = make_state()
    other.optimizers.pop()

    with pytest.raises(InputError, match="2 optimizers, the task has 1"):
        unpack_state(pack_state(make_state()), other)


def test_an_optimiser_of_other_parameters_is_refused(make_state):
    other = make_state(trained=False)
    other.optimizers[1] = torch.optim.SGD(list(other.module[3].parameters())[:1], lr=0.1)

    with pytest.raises(InputError, match="group"):
        unpack_state(pack_state(make_state()), other)


def test_what_cannot_be_packed_is_named(state):
    state.extras["mine"] = {"thing": object()}

    with pytest.raises(UnsupportedError, match=r"state\.extras\.mine\.thing"):
        pack_state(state)


def test_bytes_of_a_stranger_run_nothing(make_state):
    class Evil:
        def __reduce__(self):
            return pytest.fail, ("it was unpickled",)

    data = torch.frombuffer(bytearray(pickle.dumps(Evil())), dtype=torch.uint8)

    with pytest.raises(CorruptError):
        unpack_state(data, make_state())


@pytest.mark.parametrize("keep", [0, 7, 100, 2_000, -1])
def test_half_of_the_bytes_are_refused(make_state, keep):
    with pytest.raises(CorruptError):
        unpack_state(pack_state(make_state())[:keep], make_state())
