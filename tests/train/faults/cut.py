"""Three networks on this machine, joined by a switch that can be cut; run it under `unshare`, where nobody else is.

Trains with a worker in each of two networks and the supervisor in the third. What is cut heals by itself after a while,
unless it is for good. Prints the digest of the last checkpoint and the events of the run, or the error.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

import shoal.data
import shoal.store
from shoal.base import ShoalError
from shoal.testing.apart import ApartRuntime
from shoal.testing.faults import SETTINGS, Disturbance
from shoal.testing.faulty import Footprints
from shoal.testing.strategy import ContractTask
from shoal.train.training import fit

SUPERVISOR = "10.77.0.100"


def ip(*words, inside=()):
    subprocess.run([*inside, "ip", *words], check=True)


def make_network(rank):
    """A process that holds one worker's network, joined to the switch."""
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; read line"], stdin=-1, stdout=-1)
    holder.stdout.readline()
    inside = enter(holder)
    ip("link", "add", f"port{rank}", "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
    ip("link", "set", f"port{rank}", "master", "switch", "up")
    ip("address", "add", f"10.77.0.{rank + 1}/24", "dev", "eth0", inside=inside)
    for device in ("lo", "eth0"):
        ip("link", "set", device, "up", inside=inside)
    return holder


def enter(holder):
    return ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]


def cut(what, is_cut):
    """Silence, as of a switch that drops all: nobody is told of it."""
    if what == "host":
        ip("link", "set", "port1", "down" if is_cut else "up")
    else:
        for rank in range(2):
            ip("link", "set", f"port{rank}", "type", "bridge_slave", "isolated", "on" if is_cut else "off")


def main(train, folder, what, heals_after_s):
    ip("link", "set", "lo", "up")
    ip("link", "add", "switch", "type", "bridge")
    ip("address", "add", f"{SUPERVISOR}/24", "dev", "switch")
    ip("link", "set", "switch", "up")
    # Nothing is behind it: by this route the supervisor finds the address that others reach it by.
    ip("route", "add", "default", "dev", "switch")
    # A third for the replacement of a worker whose host is cut off.
    holders = [make_network(rank) for rank in range(3)]
    print("networks", flush=True)
    runtime = ApartRuntime(SUPERVISOR, lambda rank: enter(holders[min(rank, 2)]))
    prints = Footprints(str(Path(folder) / "steps"), slow_from=1000, pace_s=0.02)

    def strike(_):
        cut(what, is_cut=True)
        if heals_after_s >= 0:
            threading.Timer(heals_after_s, cut, (what, False)).start()

    disturbance = Disturbance(prints, 2, strike, at_step=25)
    with shoal.store.open(Path(folder) / ".shoal") as store:
        try:
            result = fit(
                ContractTask(),
                shoal.data.open(train),
                store=store,
                runtime=runtime,
                workers=2,
                callbacks=[prints],
                progress=disturbance,
                heartbeat_s=3.0,
                **SETTINGS,
            )
            told = {"digest": result.checkpoint.digest}
        except ShoalError as error:
            told = {"error": str(error)}
        told["events"] = [(event.kind, event.fields) for event in store.runs.events("r-0001")]
    print(json.dumps(told | {"prints": prints.read()}), flush=True)
    for holder in holders:
        holder.communicate(b"\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
