"""What a check of the doctor returns."""

from __future__ import annotations

from typing import NamedTuple


class Result(NamedTuple):
    name: str
    ok: bool
    text: str  # what was found
    remedy: str = ""  # what to do; empty if all is well
