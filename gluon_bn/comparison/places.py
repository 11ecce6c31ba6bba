"""Where the processes of several workers run: all on this machine, some on other hosts, or one started by hand."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from ..errors import InputError, explained
from ..system.arguments import check_count
from ..workers.parameter_server import LOOPBACK, Role, free_port, seconds_to_wait

NOT_FOUND = (socket.gaierror, UnicodeError)  # UnicodeError: a name with an empty label, as a..b
NODE_HOST = 'DMLC_NODE_HOST'
VARIABLES = 'docs/several_machines.md lists what each process needs'


@dataclass(frozen=True)
class Part:
    """A process to start: on this machine, or on a host over ssh."""

    role: Role
    host: Optional[str] = None


def on_this_machine(workers: int) -> List[Part]:
    """Scheduler, server and workers, on loopback only."""
    return _parts(workers, LOOPBACK, [])


def on_hosts(file: str, workers: Optional[int]) -> List[Part]:
    """Scheduler, server and worker 0 on this machine; the other workers on the hosts listed in a file, in turn.

    Raises: InputError if the file cannot be read, a host has no address, or there is no ssh.
    """
    with explained(lambda why: InputError(f'must be a file with a host on each line, got {file}: {why}', 'hosts')):
        lines = [line.split('#')[0].strip() for line in Path(file).read_text(encoding='utf-8').splitlines()]
    hosts = [line for line in lines if line]
    if not hosts:
        raise InputError(f'must be a file with a host on each line, got {file}, which lists none', 'hosts')
    for host in hosts:
        if not re.fullmatch(r'([\w.-]+@)?[\w.:-]+', host) or host.startswith('-'):
            raise InputError(f'must list a host or user@host on each line, got {host!r} in {file}', 'hosts')
    addresses = [_address(host, file) for host in hosts]
    with explained(lambda why: InputError(f'must list hosts that can be reached, got {hosts[0]}: {why}', 'hosts')):
        here = _address_towards(addresses[0], 9)
    workers = 1 + len(hosts) if workers is None else check_count('workers', workers)
    if not shutil.which('ssh'):
        raise InputError('needs the program ssh, got none on PATH; install an OpenSSH client', 'hosts')
    return _parts(workers, here, list(zip(hosts, addresses)))


def by_hand() -> Optional[Part]:
    """The process that MXNet's environment variables describe, as a cluster manager sets them; None without DMLC_ROLE.

    Raises: InputError if another variable is missing or wrong, or the scheduler's port is in use.
    """
    name = os.environ.get('DMLC_ROLE')
    if not name:
        return None
    if name not in ('scheduler', 'server', 'worker'):
        raise InputError(f'must be scheduler, server or worker, got {name!r}; {VARIABLES}', 'DMLC_ROLE')
    if os.environ.get('DMLC_NUM_SERVER', '1') not in ('', '1'):
        raise InputError(f'must be 1, got {os.environ["DMLC_NUM_SERVER"]!r}; start a single server', 'DMLC_NUM_SERVER')
    root, port, workers = os.environ.get('DMLC_PS_ROOT_URI'), _number('DMLC_PS_ROOT_PORT'), _number('DMLC_NUM_WORKER')
    if not root:
        raise InputError(f'must be the address of the scheduler, got nothing; {VARIABLES}', 'DMLC_PS_ROOT_URI')
    rank = _number('DMLC_TASK_ID', 0, workers - 1) if name == 'worker' else -1
    seconds_to_wait()  # refuses a wrong setting before anything starts
    host = os.environ.get(NODE_HOST)
    if host:
        try:
            free_port(host)
        except (OSError, UnicodeError) as error:
            got = f'got {host}: {_why(error)}; unset it to use the address that reaches the scheduler'
            raise InputError(f'must be an address of this machine, {got}', NODE_HOST) from error
    try:
        address = socket.gethostbyname(root)
        host = host or _address_towards(address, port)
        if name == 'scheduler':
            with socket.socket() as free:
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                free.bind((address, port))
    except NOT_FOUND as error:
        raise InputError(f'must be an address, got {root}: {_why(error)}', 'DMLC_PS_ROOT_URI') from error
    except OSError as error:
        remedy = 'use another port' if error.errno == errno.EADDRINUSE else 'start the scheduler on that machine'
        got = f'got {root}:{port}: {error.strerror}; {remedy}'
        raise InputError(f'must be an address on which the scheduler can listen, {got}', 'DMLC_PS_ROOT_URI') from error
    return Part(Role(name, rank, workers, address, port, host))


def _number(name: str, least: int = 1, most: int = 65535) -> int:
    text = os.environ.get(name, '')
    if not re.fullmatch('[0-9]{1,5}', text) or not least <= int(text) <= most:
        raise InputError(f'must be a whole number from {least} to {most}, got {text!r}; {VARIABLES}', name)
    return int(text)


def _address_towards(address: str, port: int) -> str:
    """Return the address from which this machine reaches another; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((address, port))
        here: str = way.getsockname()[0]
    return here


def _why(error: Exception) -> str:
    return getattr(error, 'strerror', None) or str(error)


def _address(host: str, file: str) -> str:
    try:
        return socket.gethostbyname(host.rpartition('@')[2])
    except NOT_FOUND as error:
        got = f'got {host} in {file}: {_why(error)}; name its address, or correct the name'
        raise InputError(f'must list hosts that can be found, {got}', 'hosts') from error


def _parts(workers: int, here: str, hosts: List[Tuple[str, str]]) -> List[Part]:
    port = free_port(here)

    def part(name: str, rank: int = -1) -> Part:
        host, address = hosts[(rank - 1) % len(hosts)] if hosts and rank > 0 else (None, here)
        return Part(Role(name, rank, workers, here, port, address), host)

    return [part('scheduler'), part('server'), *(part('worker', rank) for rank in range(workers))]
