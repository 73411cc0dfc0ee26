"""Where a store is, and what it takes to open it."""

from pathlib import Path
from typing import TYPE_CHECKING

from shoal.base import Clock, CorruptError, NotFoundError, SystemClock, UnsupportedError, find_home, load_settings
from shoal.store.migration import bring_up_to_date
from shoal.store.sql_store import SqlStore

if TYPE_CHECKING:
    from shoal.store.base import Store
    from shoal.store.records import ModelVersion

DATABASE_NAME = "store.db"
_SQLITE = "sqlite:///"


def open(url: str | Path | None = None, *, create: bool = True, clock: Clock | None = None) -> "Store":
    """Open a store; any number of processes and threads may have the same one open.

    Made by an older shoal, it is carried forward first. Opening a current one takes milliseconds; the database library
    is loaded when the store is first asked for something.

    Args:
        url: a home folder, its database file, or "sqlite:///" and the file; None for the setting `store`, else the
            nearest `.shoal` folder upwards, as git does.
        create: make what is not there yet; for None, in the working folder.
        clock: what stamps every record; the machine's clock by default.

    Raises:
        NotFoundError: there is no store, and `create` is False.
        UnsupportedError: another kind of URL, or a store that a newer shoal has written.
        CorruptError: the file is no database.
    """
    path = _locate(url, create)
    if not create and not path.exists():
        raise NotFoundError(f"cannot find a store at {path}", next_step="check the path, or open it with create=True")
    path.parent.mkdir(parents=True, exist_ok=True)
    bring_up_to_date(path)
    return SqlStore(path, home=path.parent, clock=clock or SystemClock())


def open_model_version(address: str, digest: str) -> "ModelVersion":
    """Open a handle of kind "model_version" in the store that `open` finds by itself.

    Raises:
        CorruptError: the version there has another digest: it was registered in another store.
    """
    with open(create=False) as store:
        version = store.models.get(address)
        if version.digest != digest:
            raise CorruptError(
                f"cannot open {address}: it is {version.digest} in {store.url}, expected {digest}",
                next_step="work in the folder whose store registered it, or set SHOAL_STORE",
            )
        return version


def _locate(url: str | Path | None, create: bool) -> Path:
    if url is None:
        url = load_settings().settings.store
    if url is None:
        return find_home(create=create) / DATABASE_NAME
    text = str(url)
    if "://" in text:
        if not text.startswith(_SQLITE) or text == _SQLITE:
            raise UnsupportedError(
                f"cannot open the store {text!r}: expected a folder, a file or {_SQLITE}<file>",
                next_step="use a local folder such as .shoal",
            )
        return Path(text.removeprefix(_SQLITE)).absolute()
    # Absolute: the store must stay the same when the program changes its working folder.
    path = Path(text).expanduser().absolute()
    return path if path.suffix == ".db" or path.is_file() else path / DATABASE_NAME
