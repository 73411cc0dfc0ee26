"""What a worker builds once and keeps through all generations."""

from collections.abc import Callable
from dataclasses import dataclass

from shoal.base import Ref
from shoal.train.base import TrainState
from shoal.train.building import build_state
from shoal.train.computing import device_of
from shoal.train.device import Placement, choose_device, keep_bits
from shoal.train.environment import describe_environment, set_threads
from shoal.train.feeds import DataLoaderFeed, DatasetFeed, Feed
from shoal.train.heap import keep_freed_memory
from shoal.train.plan import Plan, Source, open_rows
from shoal.train.reports import WorkerReport
from shoal.train.validating import Validator
from shoal.train.worker.diary import Diary
from shoal.train.worker.mail import Mail
from shoal.train.worker.orders import Orders
from shoal.train.worker.pulse import Pulse


@dataclass(slots=True, kw_only=True)
class Kit:
    """The device, the state, where the rows come from, and the lines to the supervisor.

    `tell` may be called from any thread.
    """

    orders: Orders
    placement: Placement
    state: TrainState
    train: Feed
    validator: Validator | None
    environment: dict[str, str]
    diary: Diary
    mail: Mail
    pulse: Pulse
    tell: Callable[[WorkerReport], None]

    @property
    def plan(self) -> Plan:
        """The run's settings."""
        return self.orders.plan


def build_kit(orders: Orders, mail: Mail, pulse: Pulse, tell: Callable[[WorkerReport], None]) -> Kit:
    """Take a device, open the data, build the model: all that needs no other worker."""
    plan = orders.plan
    set_threads(plan.threads)
    keep_freed_memory()
    placement = choose_device(orders.device)
    # Before the task builds its model, so that it may turn this off.
    keep_bits(placement.device)
    train = open_feed(plan.train, plan, shuffle=True)
    validator = None
    if plan.validation is not None:
        feed = open_feed(plan.validation, plan, shuffle=False)
        validator = Validator(feed, batch_size=plan.first_batch_size, seed=plan.seed)
    num_steps = plan.num_steps(train.num_rows)
    state = build_state(plan.task, seed=plan.seed, num_steps=num_steps, device=placement.device)
    return Kit(
        orders=orders,
        placement=placement,
        state=state,
        train=train,
        validator=validator,
        # The task may have chosen another device.
        environment=describe_environment(device_of(state.module)),
        diary=Diary(),
        mail=mail,
        pulse=pulse,
        tell=tell,
    )


def open_feed(source: "Source", plan: Plan, *, shuffle: bool) -> Feed:
    """The rows of a plan's source.

    Raises:
        CorruptError: the dataset is not what it was when the plan was made.
    """
    if not isinstance(source, Ref):
        return DataLoaderFeed(source, seed=plan.seed)
    return DatasetFeed(open_rows(source), batch_size=plan.first_batch_size, seed=plan.seed, shuffle=shuffle)
