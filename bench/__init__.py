"""Measures the cost and speed of the operator from outside: `python -m bench`."""
