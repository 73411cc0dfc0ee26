"""How a dataset becomes a loader: which columns are read, in which order, and what happens to each batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, Protocol

from shoal.base import ConfigError
from shoal.data.loading.formats import default_format, make_formatter
from shoal.data.loading.gather import RowGatherer
from shoal.data.loading.loader import Loader, LoaderConfig, whole_number
from shoal.data.loading.order import Order, WindowOrder
from shoal.data.loading.pipeline import BatchPreparation, Pipeline, Transform
from shoal.data.sampling.binding import OrderSpec
from shoal.data.schema import Schema, check_names

# Most loaders neither decode nor keep batches: what does is loaded for those that do.
if TYPE_CHECKING:
    from shoal.data.loading.decoders import Decoder, DecoderName, Decoders
    from shoal.data.prepare.fitted import FittedPreparation

CacheMode = Literal["auto", "memory", "disk", "none"]
CACHES = ("auto", "memory", "disk", "none")
# What `as_torch` says of its loader itself.
_FOUND_OUT = {"rank", "world_size", "prefetch", "format"}


class Loadable(Protocol):
    """What a loader is made of: rows by number, with a schema and a digest."""

    @property
    def schema(self) -> Schema:
        """All columns."""
        ...

    @property
    def digest(self) -> str:
        """The digest of the rows."""
        ...

    @property
    def preparation(self) -> "FittedPreparation | None":
        """What is done to each batch unless the caller says otherwise."""
        ...

    def gatherer(self, schema: Schema) -> RowGatherer:
        """Return what takes rows of these columns."""
        ...

    def shard_rows(self) -> list[int]:
        """Return how many rows lie in each shard, in storage order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What happens between storage and batch; None leaves a step out, `prepare` None takes the dataset's own."""

    columns: Sequence[str] | None = None
    cache: CacheMode = "auto"
    window: int | None = None
    order: Order | None = None
    prepare: BatchPreparation | bool | None = None
    decode: "Mapping[str, DecoderName | Decoder] | None" = None
    transform: Transform | None = None

    def __post_init__(self) -> None:
        check_names("columns", self.columns)
        if self.cache not in CACHES:
            raise ConfigError(f"cache={self.cache!r} must be one of {', '.join(CACHES)}", next_step="choose one")
        if self.window is not None and self.order is not None:
            raise ConfigError("window and order both say in which order rows come", next_step="leave one of them out")
        if self.window is not None:
            object.__setattr__(self, "window", whole_number("window", self.window))
        if self.order is not None and (isinstance(self.order, type) or not hasattr(self.order, "rows")):
            raise ConfigError(
                f"order={self.order!r} must be an order of rows",
                next_step='use one of shoal.data, such as order=Stratified("label"), or your own',
            )
        if self.prepare is not None and not isinstance(self.prepare, bool) and not hasattr(self.prepare, "apply"):
            raise ConfigError(
                f"prepare={self.prepare!r} must be a fitted preparation, True or False",
                next_step="fit it first: prepare=preparation.fit(dataset)",
            )
        if self.decode is not None and not isinstance(self.decode, Mapping):
            raise ConfigError(
                f"decode={self.decode!r} must say how each column is decoded",
                next_step='write it so: decode={"image": "png"}',
            )
        if self.transform is not None and not callable(self.transform):
            raise ConfigError(
                f"transform={self.transform!r} must be a function from a batch to a batch",
                next_step="give the function itself, not its name or its result",
            )


class HasLoader(Protocol):
    """A dataset, as far as its `loader` method goes."""

    @property
    def loader(self) -> Callable[..., Loader]:
        """Return a loader; the options are those of `Dataset.loader`."""
        ...


@dataclass(frozen=True, slots=True)
class TorchLoading:
    """Makes the loader of one process among several; travels to worker processes."""

    dataset: HasLoader
    batch_size: int
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        # The loader itself is made only where it reads; what is plainly wrong is said to who wrote it.
        if taken := sorted(_FOUND_OUT & self.options.keys()):
            raise ConfigError(
                f"{taken[0]}={self.options[taken[0]]!r} is found out by as_torch itself", next_step="leave it out"
            )
        known = signature(self.dataset.loader).parameters.keys() - _FOUND_OUT
        if unknown := sorted(self.options.keys() - known):
            near = get_close_matches(unknown[0], known, 1)
            raise ConfigError(
                f"as_torch has no option {unknown[0]!r}; it takes {', '.join(sorted(known))}",
                next_step=f"did you mean {near[0]}?" if near else "leave it out",
            )
        given = {name: value for name, value in self.options.items() if name != "pad" or value is not None}
        LoaderConfig(batch_size=self.batch_size, **_those_of(LoaderConfig, given))
        # An order that is only declared, as Stratified("label") is, becomes one when the loader is made.
        Steps(**_those_of(Steps, given if not isinstance(given.get("order"), OrderSpec) else {**given, "order": None}))

    def __call__(self, rank: int, world_size: int) -> Loader:
        """Return the loader that gives this rank its part; a DataLoader brings threads and processes of its own."""
        own = {"rank": rank, "world_size": world_size, "prefetch": False, "format": "torch"}
        return self.dataset.loader(batch_size=self.batch_size, **self.options, **own)


def _those_of(kind: type[LoaderConfig] | type[Steps], options: Mapping[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in options.items() if name in names}


def make_loader(dataset: Loadable, config: LoaderConfig, steps: Steps) -> Loader:
    """Return the loader of a dataset.

    Raises:
        ConfigError: settings that contradict each other or the columns.
        SchemaError: a column is unknown.
    """
    if config.shuffle and steps.order is not None:
        raise ConfigError("shuffle=True and order both say in which order rows come", next_step="leave shuffle out")
    preparation = _preparation(dataset, steps)
    if preparation is None:
        stored = given = dataset.schema.select(steps.columns)
    else:
        stored, given = dataset.schema.select(preparation.input_schema.names), preparation.output_schema
    decoders = _decoders(steps.decode, given) if steps.decode else None
    if wrong := [name for name in config.pad if name in (steps.decode or {})]:
        raise ConfigError(f"cannot both decode and pad {wrong[0]!r}", next_step="pad in transform, or leave pad out")
    formatter = make_formatter(config.format or default_format(), given, config.pad, config.device, config.pin_memory)
    gatherer = dataset.gatherer(stored)
    if steps.cache == "memory":
        gatherer = gatherer.in_memory()
    pipeline = Pipeline(gatherer, stored, given, formatter, preparation, decoders, steps.transform)
    if steps.cache == "disk":
        pipeline = _kept(pipeline, dataset, config, steps)
    return Loader(pipeline, dataset.digest, config, _order(dataset, config, steps))


def _decoders(decode: "Mapping[str, DecoderName | Decoder]", given: Schema) -> "Decoders":
    from shoal.data.loading.decoders import Decoders

    return Decoders(decode, given)


def _kept(pipeline: Pipeline, dataset: Loadable, config: LoaderConfig, steps: Steps) -> Pipeline:
    format = config.format or default_format()
    if format == "arrow":
        raise ConfigError(
            "cache='disk' keeps batches of numbers, not Arrow's", next_step="use format='torch' or 'numpy'"
        )
    preparation, decode = pipeline.preparation, steps.decode or {}
    digest = None if preparation is None else getattr(preparation, "digest", None)
    if preparation is not None and digest is None:
        raise ConfigError("cache='disk' cannot tell this preparation from another", next_step="give it a `digest`")
    identity = {
        "dataset": dataset.digest,
        "columns": [str(column) for column in pipeline.given.columns],
        "format": format,
        "pad": dict(config.pad),
        "preparation": digest,
        "decode": {name: each for name, each in decode.items() if not callable(each)},
        "decoded": [name for name, each in decode.items() if callable(each)],
    }
    code = [each for each in (*decode.values(), steps.transform) if callable(each)]
    from shoal.base import find_home
    from shoal.data.loading.batch_cache import BatchCache
    from shoal.data.remote.disk_cache import DiskCache
    from shoal.data.remote.shadow import cache_limit_bytes

    folder = find_home(create=True) / "cache" / "batches"
    cache = BatchCache(DiskCache(folder, cache_limit_bytes(folder)), identity, *code)
    return replace(
        pipeline, cache=cache, plain_formatter=make_formatter(format, pipeline.given, config.pad, None, None)
    )


def _preparation(dataset: Loadable, steps: Steps) -> BatchPreparation | None:
    if steps.prepare is False:
        return None
    if steps.prepare is not None and steps.prepare is not True:
        found: BatchPreparation | None = steps.prepare
    else:
        found = dataset.preparation
    if steps.prepare is True and found is None:
        raise ConfigError(
            "prepare=True, and this dataset has no preparation", next_step="fit one: dataset.prepare(Preparation(...))"
        )
    if found is not None and steps.columns is not None:
        select: Callable[[tuple[str, ...]], BatchPreparation] | None = getattr(found, "select", None)
        if select is None:
            raise ConfigError("this preparation cannot give some columns only", next_step="leave columns out")
        return select(tuple(steps.columns))
    return found


def _order(dataset: Loadable, config: LoaderConfig, steps: Steps) -> Order | None:
    if steps.window is None:
        return steps.order
    return WindowOrder(dataset.shard_rows(), steps.window, seed=config.seed)
