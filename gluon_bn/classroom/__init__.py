"""The exercises in a classroom: hand them out, and grade what comes back. Needs `pip install gluon_bn[classroom]`."""
