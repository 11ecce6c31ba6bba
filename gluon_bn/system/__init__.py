"""The basis of all other rooms: the machine, start-up, atomic files, and child processes."""
