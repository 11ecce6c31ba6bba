"""The container, built on a bare Debian without a registry and used as the README says: `make test-container`.

It needs root, buildah and debootstrap. The other processor needs qemu-user-static too, and about an hour, because each
instruction is emulated; `ARGS="-k amd64"` leaves it out. apt's and pip's settings are those of this machine.
"""

import platform
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import fresh
import pytest

from gluon_bn.workers.parameter_server import free_port

TOP = Path(__file__).resolve().parents[2]
HOME = "/workspaces/gluon_bn"
pytestmark = [pytest.mark.slow, pytest.mark.container]
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class Container:
    """A container of the image, and the host's folder mounted as its runs/."""

    def __init__(self, architecture, folder):
        self.runs = folder / "runs"
        self.runs.mkdir()
        self.runs.chmod(0o777)  # the container's user is not root
        storage = ["--storage-driver", "vfs", "--root", str(folder / "storage"), "--runroot", str(folder / "run")]
        self.command = ["buildah", *storage]
        settings, files = fresh.pip_settings()
        # not in this machine's place, because apt-get writes its own certificates in the image
        self.mounts = [word for file in files for word in ("--volume", f"{file}:/host{file}:ro")]
        for file in files:
            settings = {name: value.replace(file, f"/host{file}") for name, value in settings.items()}
        system = fresh.System("trixie", architecture)
        system.make()
        base = self("from", "--arch", architecture, "scratch").split()[-1]
        self("add", "--quiet", base, system.root, "/")
        self("config", "--arch", architecture, *(f"--env={name}={value}" for name, value in settings.items()), base)
        self("commit", "--quiet", "--rm", base, "base")
        system.remove()
        build = ["build", "--isolation", "chroot", "--format", "docker", "--arch", architecture, *self.mounts]
        self(*build, "--build-arg", "BASE=localhost/base", "-t", "gluon_bn", "-f", ".devcontainer/Dockerfile", ".")
        self.name = self("from", "--arch", architecture, "gluon_bn").split()[-1]

    def __call__(self, *words):
        done = subprocess.run([*self.command, *map(str, words)], cwd=TOP, stdout=subprocess.PIPE, text=True)
        assert done.returncode == 0, (words, done.stdout[-3000:])
        return done.stdout

    def words(self, *command, user="reader"):
        options = ["--isolation", "chroot", "--network", "host", "--user", user, *self.mounts]
        return [*self.command, "run", *options, "--volume", f"{self.runs}:{HOME}/runs", self.name, "--", *command]

    def run(self, *command, inside=(), user="reader"):
        done = subprocess.run(
            [*inside, *self.words(*command, user=user)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout


@pytest.fixture(scope="module", params=MACHINES)
def container(request, tmp_path_factory):
    missing = fresh.missing() or ("" if shutil.which("buildah") else "no buildah on this machine")
    emulator = Path("/proc/sys/fs/binfmt_misc/qemu-" + MACHINES[request.param])
    if not missing and platform.machine() != MACHINES[request.param] and not emulator.exists():
        missing = f"no emulator of {request.param}; on Debian: apt-get install qemu-user-static binfmt-support"
    if missing:
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("container")
    try:
        yield Container(request.param, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # some gigabytes


def test_the_native_library_and_the_data_are_inside(container):
    said = container.run(".venv/bin/python", "-m", "gluon_bn", "doctor")
    assert "Fashion-MNIST, verified, in /usr/share/datasets/fashion-mnist" in said
    assert re.search("^fused path +ok +native", said, re.MULTILINE) and "compiling" not in said
    assert container.run("id", "--user", "--name") == "reader\n"


def test_a_small_comparison_runs_inside_without_a_network(container):
    container.run("make", "compare", f"ARGS={fresh.MAIN_JOB}", inside=["unshare", "--net"])
    fresh.check_losses(container.runs.parent)


def test_the_native_library_is_recompiled_on_another_processor(container, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name : another\nflags : fpu\nFeatures : fp\n")
    code = "from gluon_bn import fused_batch_norm; from gluon_bn.norm import status; print(status())"
    inside = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /proc/cpuinfo && exec "$@"', str(cpuinfo)]
    said = container.run(".venv/bin/python", "-c", code, inside=inside)
    assert "compiling native.cc" in said and said.splitlines()[-1].startswith("native")


def test_jupyterlab_answers_only_with_its_token(container):
    port = free_port("127.0.0.1")
    words = re.findall(r'"(.*?)"', re.search("^CMD (.*)$", (TOP / ".devcontainer/Dockerfile").read_text(), re.M)[1])
    log = container.runs / "jupyter.log"
    # a separate process namespace: the server ends with the process that starts it
    alone = ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with open(log, "w") as output:
        command = [*alone, *container.words(*words, f"--port={port}")]
        server = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        token = wait_for_token(server, log)
        address = f"http://127.0.0.1:{port}"
        for path, expected in (("/api/contents", 403), ("/api/contents?token=wrong", 403)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(address + path, timeout=60)
            assert refused.value.code == expected
        with urllib.request.urlopen(f"{address}/api/contents?token={token}", timeout=60) as answer:
            assert "01_batch_norm_from_scratch.ipynb" in answer.read().decode()
        with urllib.request.urlopen(f"{address}/lab?token={token}", timeout=60) as answer:
            assert "JupyterLab" in answer.read().decode()
    finally:
        server.kill()
        server.wait()


def wait_for_token(server, log):
    """Return the token that the running server has printed."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"/lab\?token=(\w+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-3000:])


def test_another_user_who_owns_the_files_can_update_the_environment(container):
    """As in a dev container on Linux, where the user gets the number of the host's user."""
    container.run(
        "sh", "-c", "find . -path ./.venv -prune -o -path ./runs -prune -o -exec chown 1234:1234 {} +", user="root"
    )
    container.run(".venv/bin/python", "-m", "pip", "uninstall", "-q", "-y", "gluon_bn", user="1234:1234")
    said = container.run("env", "HOME=/tmp", "sh", "-c", "make .venv/ready && make doctor", user="1234:1234")
    assert re.search("^fused path +ok +native", said, re.MULTILINE)
