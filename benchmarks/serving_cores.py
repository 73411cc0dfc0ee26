"""More cores than there are here, on paper: what each process costs per request, and so which of them is full first.

It takes what was measured on these cores as it is. It leaves out that many cores share memory and its bandwidth, and
takes for granted that more fronts fill their batches as well as one does, which needs as many more clients.
"""

from dataclasses import dataclass

NUM_CORES = 16
_US = 1e6


@dataclass(frozen=True)
class Costs:
    """CPU seconds for one request, by who spends them.

    Attributes:
        front: of which `front_kernel` are in the kernel: sockets, mostly.
        front_kernel: see above.
        replica: the model in its batch, and what is around it.
        supervisor: and whatever other process there is.
        interrupts: hard and soft, of both sides of the connection, where the kernel tells them from the processes.
        load: of the load generator, of which `load_kernel` in the kernel; it runs elsewhere on paper.
        load_kernel: see above.
        model: of the model alone for one row in its best batch.
    """

    front: float
    front_kernel: float
    replica: float
    supervisor: float
    interrupts: float
    load: float
    load_kernel: float
    model: float


def costs(found: dict, row_s: float) -> Costs:
    """From the cores that were busy in one run of `run_wrk`, and the model's own seconds for a row."""
    each = {role: busy / found["rate_per_s"] for role, busy in found["cores"].items()}
    return Costs(
        front=each["front"],
        front_kernel=each["front kernel"],
        replica=each["replica"],
        supervisor=each["supervisor"],
        interrupts=each["interrupts"],
        load=each["wrk"],
        load_kernel=each["wrk kernel"],
        model=row_s,
    )


def ceilings(spent: Costs, num_fronts: int, num_replicas: int, num_cores: int = NUM_CORES) -> dict[str, float]:
    """Requests per second at which each of these is full: a front and a replica are one thread, so one core each.

    >>> own = {"front": 5e-5, "front_kernel": 2e-5, "replica": 2e-4, "model": 2e-4}
    >>> spent = Costs(**own, supervisor=0, interrupts=0, load=0, load_kernel=0)
    >>> {name: round(rate) for name, rate in ceilings(spent, 1, 15).items()}
    {'fronts': 20000, 'replicas': 75000, 'cores': 64000}
    """
    server = spent.front + spent.replica + spent.supervisor + spent.interrupts
    return {
        "fronts": num_fronts / spent.front,
        "replicas": num_replicas / spent.replica,
        "cores": num_cores / server,
    }


def first_full(spent: Costs, num_fronts: int, num_replicas: int, num_cores: int = NUM_CORES) -> tuple[str, float]:
    """What ends the growth, and at how many requests per second."""
    found = ceilings(spent, num_fronts, num_replicas, num_cores)
    return min(found.items(), key=lambda each: each[1])


def paper(title: str, spent: Costs, request_bytes: float, weights_bytes: float, rows: float) -> list[str]:
    """A table for people: by fronts, with the other cores for replicas, and where the best of these ends.

    Args:
        title: what was asked.
        spent: per request.
        request_bytes: of a request with its head.
        weights_bytes: that a batch reads.
        rows: of the mean batch.
    """
    parts = [
        f"front {_US * spent.front:.1f} (kernel {spent.front_kernel / spent.front:.0%})",
        f"replica {_US * spent.replica:.1f} (model alone {_US * spent.model:.1f})",
        f"supervisor {_US * spent.supervisor:.1f}",
        f"interrupts {_US * spent.interrupts:.1f}",
        f"wrk {_US * spent.load:.1f} (kernel {spent.load_kernel / spent.load:.0%})",
    ]
    lines = [
        f"{NUM_CORES} cores on paper, {title}; load from another machine; CPU us per request as measured here:",
        f"  {', '.join(parts)}",
        f"  {'fronts':>6}  {'replicas':>8}  {'requests/s':>10}  full first",
    ]
    rates: dict[int, tuple[str, float]] = {n: first_full(spent, n, NUM_CORES - n) for n in range(1, NUM_CORES)}
    best = max(rates, key=lambda n: rates[n][1])
    for n in sorted({1, 2, 3, 4, 6, 8, best}):
        what, rate = rates[n]
        mark = "  <- the most" if n == best else ""
        lines.append(f"  {n:>6}  {NUM_CORES - n:>8}  {rate:>10,.0f}  {what}{mark}")
    what, rate = rates[best]
    server = spent.front + spent.replica + spent.supervisor + spent.interrupts
    fills = spent.replica / spent.front
    network = f"{8 * request_bytes * rate / 1e9:.1f} Gbit/s of requests"
    memory = f"{weights_bytes * rate / rows / 1e9:.1f} GB/s of weights, {weights_bytes / 1e6:.1f} MB a batch"
    lines += [
        f"  the next ceiling is the one front, at {1 / spent.front:,.0f} requests/s: {fills:.1f} replicas fill it",
        f"  the one after it, with {best} fronts: {what}; replicas spend {spent.replica / server:.0%} of all CPU",
        f"  at {rate:,.0f} requests/s: {network}; {memory}, where a core does not keep them",
    ]
    return lines


def connection_line(kept: dict, each: dict) -> str:
    """What a connection of its own adds to a request: two runs of `run_wrk`, with connections kept and made anew."""
    parts = []
    for role in ("front", "front kernel", "interrupts", "wrk"):
        more = each["cores"][role] / each["rate_per_s"] - kept["cores"][role] / kept["rate_per_s"]
        parts.append(f"{role} {_US * more:+.1f}")
    rate = f"{each['rate_per_s']:,.0f} requests/s instead of {kept['rate_per_s']:,.0f}"
    return f"  a connection for each request (accept, handshake, close) adds CPU us: {', '.join(parts)}; {rate} here"
