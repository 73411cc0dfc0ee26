"""Whether two places hold versions of one history: what a copy must, before it is filled or anything is taken from it.

Each version names the content of the one before it, so that versions of another dataset do not fit between these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shoal.base import ConflictError, CorruptError, InputError, decode
from shoal.data.storage.seal import check_seal
from shoal.data.storage.shard import Shard
from shoal.data.versions.manifest import manifest_path, version_numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a version's file says of its place in the history, and the files that it names itself."""

    version: int
    parent: str | None
    digest: str
    profile: str
    shards: tuple[Shard, ...]

    def follows(self, other: "Link") -> bool:
        """Whether this version was made on top of the other; True where they are no neighbours."""
        return self.version != other.version + 1 or self.parent == other.digest

    def agrees(self, other: "Link") -> bool:
        """Whether both can be versions of one history."""
        if self.version == other.version:
            return (self.parent, self.digest) == (other.parent, other.digest)
        return self.follows(other) and other.follows(self)


def read_link(data: bytes, name: object) -> Link:
    """Return what a version's file says.

    Raises:
        CorruptError: it is damaged; the message says `name`.
    """
    check_seal(data, name)
    try:
        return decode(data, Link)
    except InputError as error:
        raise CorruptError(
            f"cannot read {name}: {error.message}", next_step="restore the file, or name another copy"
        ) from error


def links_of(folder: Path) -> dict[int, Link]:
    """Return the links of all versions in a folder whose files are whole."""
    found = {}
    for number in version_numbers(folder):
        try:
            found[number] = read_link((path := manifest_path(folder, number)).read_bytes(), path)
        except (CorruptError, FileNotFoundError):
            continue
    return found


def check_same_history(folder: Path, place: str, theirs: Mapping[int, Link], *, is_known: bool) -> None:
    """Return when a place's versions are those of the dataset in a folder, as far as both have them.

    Args:
        folder: the dataset's.
        place: what the place is called.
        theirs: its versions that can be read; there is at least one version.
        is_known: whether it was this dataset's copy before: then it may have no version in common any more.

    Raises:
        ConflictError: it holds another dataset.
    """
    ours = links_of(folder)
    pairs = [
        (ours[number], link)
        for version, link in theirs.items()
        for number in (version - 1, version, version + 1)
        if number in ours
    ]
    if all(one.agrees(other) for one, other in pairs) and (pairs or is_known):
        return
    differing = min((max(a.version, b.version) for a, b in pairs if not a.agrees(b)), default=None)
    what = "no version is in both" if differing is None else f"version {differing} is another one there"
    raise ConflictError(
        f"cannot keep a copy of {folder} in {place}: it holds another dataset, as {what}",
        next_step="give an empty folder: dataset.mirror('/another/disk/clicks')",
    )


def check_belongs(folder: Path, link: Link, number: int, place: str) -> None:
    """Return when a version of a copy fits where the dataset in a folder lacks it.

    Where no neighbour is left to tell, it must name a file that is here, unless none is.

    Raises:
        ConflictError: it is a version of another dataset.
    """
    ours = {version: found for version, found in links_of(folder).items() if version != number}
    if number - 1 in ours or number + 1 in ours:
        fits = all(link.agrees(found) for found in ours.values())
    else:
        here = {path.name for kind in ("shards", "profiles") for path in (folder / kind).glob("*")}
        named = {link.profile.removeprefix("b3:"), *(shard.digest.removeprefix("b3:") for shard in link.shards)}
        fits = not here or any(name.partition(".")[0] in named for name in here)
    if link.version != number or not fits:
        raise ConflictError(
            f"cannot repair {folder} from {place}: version {number} there is one of another dataset",
            next_step="name a copy of this dataset with repair(from_=...)",
        )
