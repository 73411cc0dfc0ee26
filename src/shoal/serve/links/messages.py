"""What the supervisor and the front tell each other, over the runtime's channel, as tagged JSON."""

from typing import Literal, TypeAlias

import msgspec

_TAG = "kind"


class ModelPlan(msgspec.Struct, frozen=True):
    """How one model is to be served.

    Attributes:
        versions: the package folder or ONNX file of each version that is to be loaded.
        shares: each version's part of the traffic, production first; others answer only when a request names them.
    """

    versions: dict[str, str]
    shares: dict[str, float]

    def equals(self, other: "ModelPlan") -> bool:
        """Whether both say the same, the order of shares included: the main version stands first."""
        return self == other and list(self.shares) == list(other.shares)


class Plan(msgspec.Struct, frozen=True, tag_field=_TAG, tag="plan"):
    """Everything that is to be served. The newest generation holds; the front works towards it without a gap.

    Attributes:
        generation: its number.
        models: by name.
        default: what a path that names no model means; "" for the first of `models`.
    """

    generation: int
    models: dict[str, ModelPlan]
    default: str = ""


class Configure(msgspec.Struct, frozen=True, tag_field=_TAG, tag="configure"):
    """The first message to a front: what it cannot know, and the key, which must not stand in a command line."""

    port: int
    api_key: str | None
    plan: Plan
    grpc_port: int | None = None


class Sync(msgspec.Struct, frozen=True, tag_field=_TAG, tag="sync"):
    """Make the prediction logs readable up to now, then say `Synced` with this number."""

    number: int


class WishDone(msgspec.Struct, frozen=True, tag_field=_TAG, tag="wish_done"):
    """What became of a `Wish`: a status as over HTTP, and unless it is 200 why, and what to do."""

    id: str
    status: int
    message: str = ""
    next_step: str = ""


class Listening(msgspec.Struct, frozen=True, tag_field=_TAG, tag="listening"):
    """The front has its ports; `grpc_port` is None where gRPC is not served."""

    port: int
    grpc_port: int | None = None


class CannotListen(msgspec.Struct, frozen=True, tag_field=_TAG, tag="cannot_listen"):
    """The front could not have its port, and ends."""

    message: str
    next_step: str


class Problem(msgspec.Struct, frozen=True):
    """Why a version is not served as planned."""

    model: str
    version: str
    message: str
    next_step: str


class Serving(msgspec.Struct, frozen=True, tag_field=_TAG, tag="serving"):
    """What the front routes to now: model -> version -> share. Sent whenever it changes.

    Attributes:
        generation: the newest plan that the front has seen; it is reached when `shares` equal the plan's.
        problems: what keeps the front from reaching it.
        replicas: rank and process id of those that have said Hello and are still there.
    """

    generation: int
    shares: dict[str, dict[str, float]]
    problems: list[Problem]
    replicas: list[tuple[int, int]] = []


class Pulse(msgspec.Struct, frozen=True, tag_field=_TAG, tag="pulse"):
    """The front is alive. Sent again and again, whatever else it does.

    Attributes:
        busy_s: how long replicas have been at this front's batches, all of them together, since it was started.
        wait_s: how long a new request would wait, as predicted.
        num_open: requests that wait or run.
        num_able: replicas that can take work.
    """

    busy_s: float
    wait_s: float
    num_open: int
    num_able: int


class EndReplica(msgspec.Struct, frozen=True, tag_field=_TAG, tag="end_replica"):
    """A replica that is stuck on another machine is to be killed, unless its rank has another process by now."""

    rank: int
    pid: int


class Synced(msgspec.Struct, frozen=True, tag_field=_TAG, tag="synced"):
    """The answer to `Sync`; `failure` says in words why the logs could not be written, if so."""

    number: int
    failure: str | None = None


class Wish(msgspec.Struct, frozen=True, tag_field=_TAG, tag="wish"):
    """A client wants a model of the repository loaded or unloaded; `WishDone` with the same id answers."""

    id: str
    action: Literal["load", "unload"]
    model: str


ToFront: TypeAlias = Configure | Plan | Sync | WishDone
FromFront: TypeAlias = Listening | CannotListen | Serving | Pulse | EndReplica | Synced | Wish

_TO_FRONT: msgspec.json.Decoder[ToFront] = msgspec.json.Decoder(ToFront)
_FROM_FRONT: msgspec.json.Decoder[FromFront] = msgspec.json.Decoder(FromFront)


def encode_message(message: ToFront | FromFront) -> bytes:
    """The message as the runtime carries it."""
    return msgspec.json.encode(message)


def read_for_front(data: bytes) -> ToFront:
    """A message of the supervisor."""
    return _TO_FRONT.decode(data)


def read_from_front(data: bytes) -> FromFront:
    """A message of the front."""
    return _FROM_FRONT.decode(data)
