"""Several machines in one: network namespaces, joined by a network with a chosen round-trip time.

Each namespace has one TUN device. A relay process reads every packet that is sent, and delivers it after half the
round-trip time. This needs no netem, but root, iproute2 and /dev/net/tun.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections import deque
from typing import Deque, Dict, Iterator, List, Tuple

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000  # linux/if_tun.h
CLONE_NEWNET, PR_SET_TIMERSLACK = 0x40000000, 29  # linux/sched.h, linux/prctl.h
DEVICE, BYTES_PER_PACKET = 'gluonbn', 65_000
FORWARDING, WAKING = 20e-6, 100e-6  # seconds: to forward a packet without a delay; to wake the relay, at most
libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def machines(count: int, round_trip: float) -> Iterator[List[Tuple[str, str]]]:
    """Yield (namespace, address) of each machine. round_trip: seconds. Raises: OSError if this is not allowed."""
    names = [f'gluonbn{os.getpid()}-{i}' for i in range(count)]
    with contextlib.ExitStack() as stack:
        for name in names:
            _ip('netns', 'add', name)
            stack.callback(_delete, name)
        command, pipe = [sys.executable, '-m', __name__, str(round_trip), *names], subprocess.PIPE
        # in its own session, so that Ctrl-C reaches only this process; the relay ends when its input is closed
        relay = stack.enter_context(
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True)
        )
        if not relay.stdout or not relay.stdout.readline():
            raise OSError('the relay could not open its TUN devices')
        yield [(name, address(i)) for i, name in enumerate(names)]


def address(machine: int) -> str:
    return f'10.78.0.{machine + 1}'


def enter(name: str) -> None:
    """Move this thread, and those that it starts later, into a namespace."""
    with open(f'/run/netns/{name}') as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)


def round_trip_to(host: str) -> float:
    """Return the median time, over 20 tries, until another machine refuses a connection, in seconds."""
    seconds = []
    for _ in range(20):
        with socket.socket() as closed:
            start = time.perf_counter()
            closed.connect_ex((host, 1))
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def bytes_sent_and_received() -> int:
    """Return how many bytes the devices of this namespace have carried; 0 if the system does not report it."""
    try:
        with open('/proc/self/net/dev') as file:
            fields = [line.split(':')[1].split() for line in file if ':' in line]
    except FileNotFoundError:  # not Linux
        return 0
    return sum(int(each[0]) + int(each[8]) for each in fields)


def _ip(*words: str) -> None:
    try:
        subprocess.run(['ip', *words], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise OSError(error.stderr.strip()) from error


def _delete(name: str) -> None:
    subprocess.run(['ip', 'netns', 'del', name], capture_output=True)


def _open_device(name: str, machine: int) -> int:
    enter(name)
    device = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack('16sH', DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    _ip('addr', 'add', f'{address(machine)}/24', 'dev', DEVICE)
    _ip('link', 'set', DEVICE, 'mtu', str(BYTES_PER_PACKET), 'up')
    _ip('link', 'set', 'lo', 'up')
    return device


def relay(devices: Dict[bytes, int], delay: float) -> None:
    """Deliver each packet after a delay, until standard input is closed. devices: by the address they deliver to."""
    libc.prctl(PR_SET_TIMERSLACK, 1)  # nanoseconds; by default, a wait takes up to 50 microseconds longer
    waiting: Deque[Tuple[float, int, bytes]] = deque()  # in order, because all wait equally long
    while True:
        seconds = max(0, waiting[0][0] - time.monotonic() - WAKING) if waiting else None  # then it spins
        for device in select.select([0, *devices.values()], [], [], seconds)[0]:
            if device == 0:  # the process that started this one has closed it, or is gone
                return
            packet = os.read(device, 1 << 16)
            to = devices.get(packet[16:20])  # the destination in an IPv4 header
            if to is not None:
                waiting.append((time.monotonic() + delay, to, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, to, packet = waiting.popleft()
            os.write(to, packet)


if __name__ == '__main__':
    _, round_trip, *names = sys.argv
    try:
        devices = {socket.inet_aton(address(i)): _open_device(name, i) for i, name in enumerate(names)}
        print('ready', flush=True)
        relay(devices, float(round_trip) / 2 - FORWARDING)
    finally:
        for name in names:
            _delete(name)
