"""Compiled loops. They take arrays and integers, return counters, and import numpy and numba only."""
