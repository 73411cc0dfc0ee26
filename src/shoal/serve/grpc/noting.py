"""What an observer hears of calls, and what their answers say back."""

from shoal.serve.grpc.call import PREFIX_BYTES, Call
from shoal.serve.grpc.hpack import encode_headers
from shoal.serve.tracing.observer import Observer
from shoal.serve.wire.trace_context import PARENT


def note(observer: Observer | None, call: Call, client: str, num_bytes_out: int) -> bytes:
    """Have the observer hear of a call that is being answered.

    Args:
        observer: None where nobody asked for one.
        call: with the status of its answer.
        client: the address that it came from; "" where it is not known.
        num_bytes_out: of the message that answers it.

    Returns:
        Further headers for the answer, as a block; mostly none.
    """
    if observer is None:
        return b""
    back = observer.note(
        protocol="grpc",
        method="POST",
        path=call.head.path,
        status=call.answered_status,
        client=client,
        headers=call.head.headers,
        num_bytes_in=max(0, call.num_bytes - PREFIX_BYTES),
        num_bytes_out=num_bytes_out,
        started_s=call.started_s,
        ran=call.ran,
    )
    return encode_headers([(PARENT, back)]) if back else b""
