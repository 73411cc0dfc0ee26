"""The graph of a flow: calls of steps that were noted instead of made, and what each of them waits for."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NoReturn

from shoal.base import InputError
from shoal.flow.definition import Definition

_recording: ContextVar["Graph | None"] = ContextVar("shoal_flow_graph", default=None)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One call of a step. `needs` are the indices of the nodes whose results are among its arguments: all smaller."""

    index: int
    step: Definition
    arguments: Mapping[str, object]
    needs: tuple[int, ...]


class Pending:
    """Stands for the result of a step while the graph is built; steps take it, nothing else can be done with it."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def index(self) -> int:
        """The index of the node that will make the value."""
        return self._node.index

    def _refuse(self, *_: object) -> NoReturn:
        name = self._node.step.name
        raise InputError(
            f"cannot look into the result of step {name!r} while the flow is built: it is not computed yet",
            next_step=f"hand it to another step and look into it there, or return it and look at {name!r} after run()",
        )

    __bool__ = __iter__ = __len__ = __getitem__ = __contains__ = __index__ = __float__ = __fspath__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __lt__ = __gt__ = __le__ = __ge__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def __repr__(self) -> str:
        return f"<result of step {self._node.step.name}>"


class Graph:
    """Nodes in the order of their calls, which is an order in which they can run."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, step: Definition, arguments: Mapping[str, object]) -> Pending:
        """Note a call and return what stands for its result."""
        needs = tuple(sorted({pending.index for pending in pendings(arguments)}))
        node = Node(len(self.nodes), step, arguments, needs)
        self.nodes.append(node)
        return Pending(node)

    def names(self) -> list[str]:
        """One name per node: the step's, and where it is called more than once, the number of the call."""
        total = Counter(node.step.name for node in self.nodes)
        called: Counter[str] = Counter()
        names = []
        for node in self.nodes:
            name = node.step.name
            names.append(f"{name}[{called[name]}]" if total[name] > 1 else name)
            called[name] += 1
        return names


def active_graph() -> Graph | None:
    """The graph that this thread is building, or None outside a flow's definition."""
    return _recording.get()


@contextmanager
def recording(graph: Graph) -> Iterator[None]:
    """Let calls of steps in this block be noted in `graph`."""
    token = _recording.set(graph)
    try:
        yield
    finally:
        _recording.reset(token)


def pendings(value: object) -> Iterator[Pending]:
    """Yield every pending result inside lists, tuples, dicts, sets and dataclasses."""
    if isinstance(value, Pending):
        yield value
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from pendings(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from pendings(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from pendings(getattr(value, field.name, None))


def filled(value: object, result: Callable[[int], object]) -> Any:  # noqa: ANN401 - of the same shape as `value`
    """Return `value` with every pending result replaced by `result(index)`; containers are copied, the rest is not."""
    if isinstance(value, Pending):
        return result(value.index)
    if isinstance(value, list):
        return [filled(item, result) for item in value] if type(value) is list else value
    if isinstance(value, tuple):
        items = [filled(item, result) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, dict):
        return {key: filled(item, result) for key, item in value.items()} if type(value) is dict else value
    if is_dataclass(value) and not isinstance(value, type) and next(pendings(value), None) is not None:
        return replace(value, **{field.name: filled(getattr(value, field.name), result) for field in fields(value)})
    return value
