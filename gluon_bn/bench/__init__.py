"""The benchmark: the time of one layer and one epoch, and the accuracy, of each implementation.

`run.main` runs it. Each framework has its own process, and they take turns (`rounds.py`).
"""
