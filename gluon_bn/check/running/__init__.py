"""Runs a student's code on the trials, with a time limit; whatever it does becomes a result."""
