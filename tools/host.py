"""This machine's settings for apt and pip, which a system installed on it needs, too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from reach import read


def mirror():
    """Return this machine's mirror of Debian, "" for debootstrap's own."""
    etc = Path("/etc/apt")
    files = [etc / "sources.list", *sorted(etc.glob("sources.list.d/*.list")), *etc.glob("sources.list.d/*.sources")]
    found = re.findall(r"^(?:deb +(?:\[.*?\] +)?|URIs: *)(\S+)", "\n".join(map(read, files)), re.MULTILINE)
    return next((url for url in found if re.search(r"/debian/?$", url)), "")


def apt_options():
    """Return this machine's options for fetching by apt, such as a proxy."""
    dump = subprocess.run(["apt-config", "dump"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return "".join(line + "\n" for line in dump.splitlines() if re.match(r"Acquire::(https?::|Check|Retries)", line))


def pip_settings():
    """Return this machine's settings of pip and its proxies as environment variables, and the files that they name."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(pip, stdout=subprocess.PIPE, text=True, check=True).stdout
    settings = {}
    for option, value in re.findall(r"^(?:global|install)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE):
        settings["PIP_" + option.upper().replace("-", "_")] = value.replace("\\n", " ")
    for name, value in os.environ.items():
        if name.startswith("PIP_") or name.lower().endswith("_proxy") or name == "SSL_CERT_FILE":
            settings[name] = value
    # the links of a local index point to files beside it
    files = {re.sub("^file://(.*?)(/simple)?/?$", r"\1", word) for value in settings.values() for word in value.split()}
    return settings, sorted(file for file in files if file.startswith("/") and Path(file).exists())
