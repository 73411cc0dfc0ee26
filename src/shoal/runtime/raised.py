"""An exception in words, before it leaves the process that raised it."""

import traceback


def describe(error: BaseException, *, skip_file: str) -> tuple[str, str]:
    """Its last line and its whole traceback, causes included; the leading frames of `skip_file` are left out."""
    outer = error.__traceback__
    while outer is not None and outer.tb_frame.f_code.co_filename == skip_file:
        outer = outer.tb_next
    # A mistake that was found before any of the user's code ran has no other frames than ours.
    shown = error.with_traceback(outer or error.__traceback__)
    summary = "".join(traceback.format_exception_only(shown)).strip()
    return summary, "".join(traceback.format_exception(shown))
