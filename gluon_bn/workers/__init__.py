"""Workers that train together: each gets a share of every minibatch, and they exchange a few numbers per layer."""

from .gradients import assign
from .group import Alone, Group, Threads, current, joined

__all__ = ["Alone", "Group", "Threads", "assign", "current", "joined"]
