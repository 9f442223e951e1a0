"""Two hosts on one machine: network namespaces with a cable between them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


def ip(*words: str, check: bool = True) -> None:
    """Calls the ``ip`` command."""
    subprocess.run(["ip", *words], check=check, capture_output=True)


@dataclass(frozen=True)
class Host:
    """Where an agent runs.

    Args:
        prefix: what to write before its command.
        variables: of its environment.
    """

    prefix: Sequence[str]
    variables: dict[str, str]


@contextmanager
def hosts_of(count: int, apart: bool) -> Iterator[list[Host]]:
    """Hosts on this machine; ``apart``: two network namespaces with a cable between them.

    Raises:
        subprocess.CalledProcessError, OSError: there can be no network namespaces here.
    """
    if not apart:
        yield [Host([], {"MASTER": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"})] * count
        return
    names, ends = ([f"mb{os.getpid()}{kind}{side}" for side in "ab"] for kind in "nv")
    addresses = ("10.78.0.1", "10.78.0.2")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(names, ends, addresses, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        places = zip(names, ends, strict=True)
        yield [
            Host(["ip", "netns", "exec", name], {"MASTER": addresses[0], "GLOO_SOCKET_IFNAME": end})
            for name, end in places
        ]
    finally:
        for name in names:
            ip("netns", "del", name, check=False)


def namespaces_work() -> bool:
    """Whether network namespaces can be made here."""
    try:
        with hosts_of(2, apart=True):
            return True
    except (subprocess.CalledProcessError, OSError):
        return False
