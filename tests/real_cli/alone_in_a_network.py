"""Runs one program for one answer in a network that was just made: loopback, and one interface that leads nowhere.

All that is sent to any other address, names to be looked up included, leaves by that interface and is counted. Run as a
script by `test_real_network`, as ``PROVIDER DIRECTORY``; or as ``only-the-network``, to see whether it can be had.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

NAMES = "192.0.2.53"
SETUP = """
ip link set lo up
ip link add out0 type veth peer name out1
ip link set out0 addrgenmode none
ip link set out1 addrgenmode none
ip address add 198.51.100.1/24 dev out0
ip link set out0 up
ip link set out1 up
ip neighbour add 198.51.100.2 lladdr 02:00:00:00:00:02 dev out0 nud permanent
ip route add default via 198.51.100.2
"""


def make_network() -> None:
    """Make the interfaces, and have names looked up beyond them. Raises `subprocess.CalledProcessError`."""
    for line in SETUP.strip().splitlines():
        subprocess.run(line.split(), check=True)  # noqa: S603  # the lines above
    with tempfile.NamedTemporaryFile("w", prefix="resolv") as file:
        file.write(f"nameserver {NAMES}\noptions timeout:1 attempts:1\n")
        file.flush()
        subprocess.run(["mount", "--bind", file.name, "/etc/resolv.conf"], check=True)  # noqa: S603, S607  # mount(8)


def packets() -> int:
    """How many packets were sent by the interface so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "out0":
            return int(counts.split()[9])
    raise LookupError("there is no interface out0")


def main(provider: str, root: Path) -> None:
    """Have one answer, and write what was said and sent."""
    import trio
    from agents_at_hand import ROWS, AgentAtHand, simulated

    async def answer() -> str | None:
        (row,) = (row for row in ROWS if row.provider == provider)
        agent = AgentAtHand(row, root)
        async with simulated() as seen, agent.model(seen) as model:
            call = await model.invoke(prompt="simulate: say nobody else was asked")
            call.raise_for_status()
            return call.text

    before = packets()
    text = trio.run(answer)
    during = packets() - before
    with contextlib.suppress(socket.gaierror):  # nobody answers
        socket.getaddrinfo("name.invalid", 443)
    told = {"text": text, "packets": during, "packets_with_a_name_looked_up": packets() - before}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    make_network()
    if len(sys.argv) == 3:
        main(sys.argv[1], Path(sys.argv[2]))
