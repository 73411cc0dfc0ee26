"""What a front hears before it can begin."""

from shoal.runtime import Context
from shoal.serve.links.messages import Configure, read_for_front


def wait_for_configuration(context: Context) -> Configure | None:
    """The supervisor's first message; None when it wants no front any more."""
    while (data := context.receive()) is not None:
        message = read_for_front(data)
        # A plan may have been sent to the front that died, just as this one took its place: it is in Configure too.
        if isinstance(message, Configure):
            return message
    return None
