"""The benchmark: what one layer and one epoch cost, by which implementation, and how accurate each is.

`run.main` runs it. Each framework works in a process of its own, one turn at a time (`rounds.py`).
"""
