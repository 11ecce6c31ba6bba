"""The ground floor: the machine, start-up, files written whole or not at all, and child processes."""
