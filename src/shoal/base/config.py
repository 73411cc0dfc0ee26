"""Settings: where each value comes from, and the only place that reads environment variables."""

import difflib
import hmac
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from shoal.base.errors import ConfigError, NotFoundError

HOME_NAME = ".shoal"
FILE_NAME = "shoal.toml"

# Every variable that shoal reads, and what it is for. Fewer than ten, and it stays so.
VARIABLES: Mapping[str, str] = {
    "SHOAL_STORE": "URL of the store (setting `store`)",
    "SHOAL_HOME": "the .shoal folder (setting `home`)",
    "SHOAL_THREADS": "threads per worker (setting `threads`)",
    "SHOAL_CACHE_BYTES": "most bytes to keep of remote shards, and of batches (setting `cache_bytes`)",
    "SHOAL_FASHION_MNIST": "folder with the four Fashion-MNIST files",
    "SHOAL_SECRET_<NAME>": "a secret's value",
    "SHOAL_SECRET_<NAME>_FILE": "a file that holds a secret's value",
}


# Set by the programs that start the processes of a job, never by users of shoal.
_LAUNCHER_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "SLURM_PROCID",
    "SLURM_NTASKS",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_STEP_NODELIST",
    "SLURM_JOB_NODELIST",
    "SLURM_NODELIST",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
)
# OpenTelemetry's own, which every program that makes traces heeds; all others of theirs are read by its exporter.
_TRACES_VARIABLE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_TELEMETRY_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user may set for all of shoal; None means that shoal chooses."""

    store: str | None = None
    home: Path | None = None
    threads: int | None = None
    cache_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("threads", "cache_bytes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name}={value} must be >= 1", next_step="leave it out to let shoal choose")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Settings, and for each field where its value came from: "default", "shoal.toml:3", "SHOAL_STORE" or "flag"."""

    settings: Settings
    sources: Mapping[str, str]


def load_settings(flags: Mapping[str, object] | None = None, start: Path | None = None) -> Resolved:
    """Read the nearest `shoal.toml` upwards from `start`, then `SHOAL_*`, then flags: the later wins.

    Relative paths in the file count from the file's folder. A flag of None is not set.

    Raises:
        ConfigError: an unknown key (with the nearest match), a value of the wrong type, or a file that is no TOML.
    """
    names = [field.name for field in fields(Settings)]
    values: dict[str, object] = {}
    sources = dict.fromkeys(names, "default")
    for name, (value, source) in _from_file((start or Path.cwd()).absolute()).items():
        values[name], sources[name] = value, source
    _check_variables()
    for name in names:
        variable = f"SHOAL_{name.upper()}"
        if text := os.environ.get(variable):
            values[name], sources[name] = text, variable
    for name, value in (flags or {}).items():
        if name not in names:
            _unknown(name, names, "the flags")
        if value is not None:
            values[name], sources[name] = value, "flag"
    typed = {name: _typed(name, value, sources[name]) for name, value in values.items()}
    return Resolved(settings=Settings(**typed), sources=sources)


def find_home(start: Path | None = None, create: bool = False) -> Path:
    """Return the `.shoal` folder in charge: the setting `home`, else the nearest one upwards from `start`, as git does.

    Args:
        start: where to look first; the working folder by default.
        create: make it (in `start`, or where the setting says) when there is none.

    Raises:
        NotFoundError: there is none and `create` is False.
    """
    start = (start or Path.cwd()).absolute()
    home = load_settings(start=start).settings.home
    if home is None:
        found = (folder / HOME_NAME for folder in (start, *start.parents) if (folder / HOME_NAME).is_dir())
        home = next(found, start / HOME_NAME)
    if not home.is_dir():
        if not create:
            raise NotFoundError(
                f"cannot find {home.name} in {home.parent} or above it",
                next_step="run in the project's folder, or set SHOAL_HOME",
            )
        home.mkdir(parents=True, exist_ok=True)
    return home


def launcher_variables() -> dict[str, str]:
    """Return what torchrun, Slurm and their like have told this process of its place in a job, by variable."""
    return {name: value for name in _LAUNCHER_VARIABLES if (value := os.environ.get(name))}


def traces_endpoint() -> str | None:
    """Return where OpenTelemetry's variables send traces, as a whole address; None where they ask for none.

    They ask for none, too, when they switch the SDK or the exporter off, or name a protocol other than http/protobuf.
    """
    get = os.environ.get
    protocol = get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    is_off = get("OTEL_SDK_DISABLED", "").lower() == "true" or get("OTEL_TRACES_EXPORTER", "otlp") != "otlp"
    if is_off or protocol != "http/protobuf":
        return None
    base = get(_TELEMETRY_VARIABLE)
    return get(_TRACES_VARIABLE) or (f"{base.rstrip('/')}/v1/traces" if base else None)


def environment(name: str) -> str | None:
    """Return the value of one of `VARIABLES`, or None when it is unset or empty."""
    if name not in VARIABLES:
        _unknown(name, list(VARIABLES), "base/config.py")
    return os.environ.get(name) or None


class Secret:
    """A value that hides itself: `repr`, `str` and formatting show ***, and it cannot be pickled, stored or hashed."""

    __slots__ = ("_value",)
    __hash__ = None  # type: ignore[assignment]  # a secret must not become part of a key

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself: call it at the last moment, and keep the result out of messages."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled; pass its name and read it where it is needed")


def secret(name: str) -> Secret:
    """Read a secret from `SHOAL_SECRET_<NAME>`, or from the file that `SHOAL_SECRET_<NAME>_FILE` names.

    Raises:
        NotFoundError: neither is set, or the file cannot be read.
    """
    variable = f"SHOAL_SECRET_{name.upper().replace('-', '_')}"
    if value := os.environ.get(variable):
        return Secret(value)
    path = os.environ.get(f"{variable}_FILE")
    try:
        if path and (text := Path(path).read_text("utf-8").strip()):
            return Secret(text)
    except OSError as error:
        raise NotFoundError(
            f"cannot read the secret {name!r} from {path}: {error.strerror}", next_step=f"correct {variable}_FILE"
        ) from error
    raise NotFoundError(
        f"cannot find the secret {name!r}: neither {variable} nor {variable}_FILE gives a value",
        next_step=f"export {variable}=...",
    )


def _from_file(start: Path) -> dict[str, tuple[object, str]]:
    path = next((folder / FILE_NAME for folder in (start, *start.parents) if (folder / FILE_NAME).is_file()), None)
    if path is None:
        return {}
    text = path.read_text("utf-8")
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"cannot read {path}: {error}", next_step="correct the file at the named line") from error
    known = [field.name for field in fields(Settings)]
    found: dict[str, tuple[object, str]] = {}
    for name, value in values.items():
        if name not in known:
            _unknown(name, known, str(path))
        line = next(number for number, line in enumerate(text.splitlines(), 1) if re.match(rf"\s*[\"']?{name}\b", line))
        home = path.parent / Path(value).expanduser() if name == "home" and isinstance(value, str) else value
        found[name] = (home, f"{FILE_NAME}:{line}")
    return found


def _typed(name: str, value: object, source: str) -> Any:  # noqa: ANN401  # each field has its own type
    if name in ("threads", "cache_bytes"):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().isdecimal():
            return int(value)
        raise ConfigError(f"{name}={value!r} ({source}) is not a whole number", next_step=f"write it as in {name} = 2")
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise ConfigError(f"{name}={value!r} ({source}) is not text", next_step=f'write it as in {name} = "..."')
    return Path(value).expanduser().absolute() if name == "home" else str(value)


def _check_variables() -> None:
    # Only near misses: the user's other programs may have variables that begin like ours.
    ours = (name for name in os.environ if name.startswith("SHOAL_") and not name.startswith("SHOAL_SECRET_"))
    for name in ours:
        if name not in VARIABLES and difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.8):
            _unknown(name, list(VARIABLES), "the environment")


def _unknown(name: str, known: list[str], where: str) -> NoReturn:
    nearest = difflib.get_close_matches(name, known, n=1)
    raise ConfigError(
        f"unknown setting {name!r} in {where}: expected one of {', '.join(known)}",
        next_step=f"did you mean {nearest[0]!r}?" if nearest else "remove it",
    )
