import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shoal.base import ConfigError, InputError
from shoal.testing.strategy import ThreadGroup, make_rows, train_once
from shoal.train.building import build_state
from shoal.train.collective import Collective
from shoal.train.computing import compute_loss
from shoal.train.group.solo import Solo
from shoal.train.record import describe, task_code
from shoal.train.task import Task
from shoal.train.updating import update
from shoal.train.validating import Validator, share_logged
from shoal.train.worker.micro_batch import set_number

lightning = pytest.importorskip("pytorch_lightning", reason="the adapter is tested with Lightning's own class")


class Classifier(lightning.LightningModule):
    def __init__(self, width=6, lr=0.05):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(
            nn.Linear(5, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.4), nn.Linear(width, 3)
        )

    def forward(self, features):
        return self.layers(features)

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch["features"]), batch["label"])
        self.log("train_loss", loss, on_step=True, prog_bar=True)
        return {"loss": loss}

    def validation_step(self, batch, batch_idx):
        outputs = self(batch["features"])
        self.log_dict({"val_acc": (outputs.argmax(1) == batch["label"]).float().mean()})
        return F.cross_entropy(outputs, batch["label"])

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Rows:
    num_rows = 20

    def stretch(self, epoch, first, size, part, num_parts):
        return {name: column[first : first + size] for name, column in make_rows(20).items()}


def bits(state):
    return {name: value.numpy().tobytes() for name, value in state.module.state_dict().items()}


def state_of(module, **settings):
    return build_state(Task.from_lightning(module, **settings), seed=0, num_steps=4)


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_bits(workers):
    task = Task.from_lightning(Classifier(), clip_norm=1.0, ema=0.9)

    def train(group):
        return train_once(Collective(num_virtual=5), group, make_rows(), task)

    ((alone, losses),) = ThreadGroup(1).run(train)

    for state, member_losses in ThreadGroup(workers).run(train):
        assert member_losses == losses
        assert bits(state) == bits(alone)


def test_takes_the_step_that_lightning_takes():
    """Lightning's own Trainer against our loop: one micro-batch a step, no randomness but the weights'."""

    class Plain(Classifier):
        def __init__(self):
            super().__init__()
            self.layers = nn.Linear(5, 3)

    rows = make_rows(32)
    module = Plain()
    state = state_of(module)
    data = torch.utils.data.DataLoader(
        [{name: column[row] for name, column in rows.items()} for row in range(32)], batch_size=8
    )

    for first in range(0, 32, 8):
        state.module.zero_grad()
        compute_loss(state, {name: column[first : first + 8] for name, column in rows.items()}).backward()
        update(state)
    theirs = train_by_lightning(module, data)

    assert all(torch.equal(value, theirs[name]) for name, value in state.module.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def train_by_lightning(module, data):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data)
    return module.state_dict()


def test_what_it_logs_is_reported():
    state = state_of(Classifier())
    state.module.train()
    compute_loss(state, make_rows(8)).backward()
    update(state)

    found = Validator(Rows(), batch_size=8, seed=0).run(state, Solo())

    assert set(share_logged(state, Solo())) == {"train_loss"}
    assert set(found) == {"loss", "val_acc"}
    assert "log" not in vars(state.module)


def test_the_module_given_is_left_as_it_is():
    module = Classifier()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = state_of(module)

    compute_loss(state, make_rows(8)).backward()
    update(state)

    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert isinstance(state.module, Classifier)


def test_a_batch_may_be_taken_apart_as_a_tuple():
    class Apart(Classifier):
        def training_step(self, batch):
            features, label = batch
            return F.cross_entropy(self(features), label)

    rows = make_rows(8)
    named = compute_loss(state_of(Apart(), batch=("features", "label")), rows)
    numbered = compute_loss(state_of(Apart()), {"0": rows["features"], "1": rows["label"]})

    assert named.requires_grad
    assert numbered.requires_grad


def adam(module):
    return torch.optim.Adam(module.layers[0].parameters())


def sgd(module):
    return torch.optim.SGD(module.layers[4].parameters(), lr=0.1)


def halving(optimizer):
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


def plateau(optimizer):
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)


FORMS = {
    "one": (adam, 1, []),
    "a list": (lambda module: [adam(module), sgd(module)], 2, []),
    "two lists": (lambda module: ([one := adam(module)], [halving(one)]), 1, [("epoch", 1, None)]),
    "dicts": (
        lambda module: (
            {"optimizer": (one := adam(module)), "lr_scheduler": {"scheduler": halving(one), "frequency": 2}},
            {"optimizer": sgd(module)},
        ),
        2,
        [("epoch", 2, None)],
    ),
    "a plateau": (
        lambda module: {
            "optimizer": (one := adam(module)),
            "lr_scheduler": {"scheduler": plateau(one), "monitor": "val_acc"},
        },
        1,
        [("epoch", 1, "val_acc")],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_optimisers_is_understood(form):
    configure, num_optimizers, expected = FORMS[form]

    class Configured(Classifier):
        def configure_optimizers(self):
            return configure(self)

    state = state_of(Configured())

    assert len(state.optimizers) == num_optimizers
    assert [(each.every, each.frequency, each.monitor) for each in state.schedulers] == expected


def test_optimising_by_hand_is_refused():
    module = Classifier()
    module.automatic_optimization = False

    with pytest.raises(ConfigError, match=r"optimises by hand .* return the loss from training_step"):
        Task.from_lightning(module)


def test_one_loss_for_each_optimiser_is_refused():
    class Old(Classifier):
        def training_step(self, batch, batch_idx, optimizer_idx):
            raise NotImplementedError

    with pytest.raises(ConfigError, match="optimizer_idx"):
        Task.from_lightning(Old())


def test_a_plain_module_is_refused():
    with pytest.raises(ConfigError, match="no training_step and no configure_optimizers"):
        Task.from_lightning(nn.Linear(1, 1))


def test_no_optimiser_is_refused():
    class Without(Classifier):
        def configure_optimizers(self):
            return None

    with pytest.raises(ConfigError, match="configure_optimizers returned None"):
        state_of(Without())


def test_a_step_without_loss_is_refused():
    class Skipping(Classifier):
        def training_step(self, batch, batch_idx):
            return None

    with pytest.raises(InputError, match="training_step returned None"):
        compute_loss(state_of(Skipping()), make_rows(4))


def test_a_measure_with_state_of_its_own_is_refused():
    class Stateful(Classifier):
        def training_step(self, batch, batch_idx):
            self.log("acc", self.measure)

    class Measure:
        def compute(self):
            return 1.0

    module = Stateful()
    module.measure = Measure()

    with pytest.raises(InputError, match="keeps its own state"):
        compute_loss(state_of(module), make_rows(4))


def test_validation_without_a_step_for_it_is_told():
    class Blind(Classifier):
        validation_step = lightning.LightningModule.validation_step

    with pytest.raises(ConfigError, match="no validation_step"):
        Validator(Rows(), batch_size=8, seed=0).run(state_of(Blind()), Solo())


def test_hooks_that_nobody_will_call_are_named():
    class Hooked(Classifier):
        def on_train_epoch_end(self):
            raise NotImplementedError

    with pytest.warns(RuntimeWarning, match="Hooked: on_train_epoch_end will not be called"):
        Task.from_lightning(Hooked())


def test_the_record_has_its_hyperparameters():
    described = describe(Task.from_lightning(Classifier(width=9), ema=0.5))["fields"]

    assert described["hparams"] == {"width": 9, "lr": 0.05}
    assert described["ema"] == 0.5
    assert task_code(Task.from_lightning(Classifier())).startswith("b3:")


def test_its_steps_get_the_number_of_the_micro_batch():
    numbers = []

    class Counting(Classifier):
        def training_step(self, batch, batch_idx):
            numbers.append(batch_idx)
            return super().training_step(batch, batch_idx)

    state = state_of(Counting())
    for number in (0, 7):
        set_number(number)
        compute_loss(state, make_rows(4))

    assert numbers == [0, 7]
