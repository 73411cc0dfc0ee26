"""An exception in words, before it leaves the process that raised it."""

import re
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

_OURS = str(Path(__file__).parents[1])
_PYTHONS = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_FRAME = re.compile(r'^  File "(.+?)", line ', re.MULTILINE)


def describe(error: BaseException, *, skip_file: str) -> tuple[str, str]:
    """Its last line with its notes, and its whole traceback with its causes, each from the user's first frame on.

    Where there is none, only the leading frames of `skip_file` are left out.
    """
    outer = error.__traceback__
    while outer is not None and outer.tb_frame.f_code.co_filename == skip_file:
        outer = outer.tb_next
    # A mistake that was found before any of the user's code ran has no other frames than ours.
    shown = error.with_traceback(outer or error.__traceback__)
    seen: set[int] = set()
    each: BaseException | None = shown
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        each.__traceback__ = _from_the_user_s(each.__traceback__)
        each = each.__cause__ or each.__context__
    summary = "".join(traceback.format_exception_only(shown)).strip()
    return summary, "".join(traceback.format_exception(shown))


def begins_in_user_code(text: str) -> bool:
    """Whether a traceback that `describe` gave begins with a frame of the user's own code."""
    first = _FRAME.search(text)
    return first is not None and is_user_file(first[1])


def advice(text: str) -> str:
    """The next step after an error with this traceback."""
    return "read the traceback below" + ("; it begins in your own code" if begins_in_user_code(text) else "")


def is_user_file(file: str) -> bool:
    """Whether code is neither ours, nor Python's, nor that of an installed package."""
    if file.startswith("<frozen ") or {"site-packages", "dist-packages"} & set(Path(file).parts):
        return False
    return not any(Path(file).is_relative_to(folder) for folder in (_OURS, *_PYTHONS))


def _from_the_user_s(trace: TracebackType | None) -> TracebackType | None:
    found = trace
    while found is not None and not is_user_file(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return found or trace
