import pytest
import torch
import torch.nn.functional as F
from torch import nn

import shoal
import shoal.train
from shoal.base import ConfigError, InputError
from shoal.testing.strategy import ContractTask
from shoal.train.checking import board_names, check_columns, check_stopping, check_task_given
from shoal.train.early_stopping import EarlyStopping
from shoal.train.training import fit


def task_of(inputs="features", target="label"):
    return shoal.Task.of(
        nn.Linear(5, 3),
        inputs=inputs,
        target=target,
        loss=F.cross_entropy,
        optimizer=lambda params: torch.optim.SGD(params, lr=0.1),
    )


def test_a_class_is_no_task_yet(datasets):
    with pytest.raises(InputError, match=r"it is a class.*write ContractTask\(\)"):
        fit(ContractTask, datasets[0])


def test_a_module_is_no_task():
    with pytest.raises(InputError, match=r"Task\.of"):
        check_task_given(nn.Linear(1, 1))


def test_a_name_is_no_dataset():
    with pytest.raises(InputError, match=r"write shoal.data.open\('fashion'\)"):
        fit(ContractTask(), "fashion")


def test_a_number_is_no_early_stopping(datasets):
    with pytest.raises(InputError, match=r"write early_stopping=shoal.train.EarlyStopping\(patience=3\)"):
        fit(ContractTask(), datasets[0], validation=datasets[1], early_stopping=3)


def test_stopping_early_without_a_validation_is_refused_before_there_is_a_run(datasets, tmp_path):
    with shoal.store.open(tmp_path / ".shoal") as store:
        with pytest.raises(ConfigError, match="validation= is missing"):
            fit(ContractTask(), datasets[0], early_stopping=EarlyStopping(), store=store)

        assert store.runs.list() == []


def test_stopping_early_by_a_validation_is_allowed():
    check_stopping(EarlyStopping(), is_validated=True)
    check_stopping(None, is_validated=False)


def test_a_time_in_words_is_refused(datasets):
    with pytest.raises(ConfigError, match=r"checkpoint_every_s='5min' is a str, expected a number.*in seconds"):
        fit(ContractTask(), datasets[0], checkpoint_every_s="5min")


@pytest.mark.parametrize("words", [{"inputs": "y"}, {"target": "y"}], ids=["inputs", "target"])
def test_a_column_that_is_not_there_is_known_before_the_start(datasets, words):
    known = ", ".join(datasets[0].schema.names)

    with pytest.raises(ConfigError, match=f"names the column 'y', the dataset has {known}"):
        fit(task_of(**words), datasets[0])


def test_columns_that_are_there_are_fine(datasets):
    check_columns(task_of(), *datasets, None)


def test_one_board_may_stand_alone():
    assert board_names("tensorboard") == ("tensorboard",)
    assert board_names(["tensorboard", "wandb"]) == ("tensorboard", "wandb")


def test_a_board_s_name_is_not_taken_letter_by_letter(datasets):
    with pytest.raises(ConfigError, match="'tensorbord'"):
        fit(ContractTask(), datasets[0], report_to="tensorbord")
