"""What the operator costs and how fast it is, measured from outside: `python -m bench`."""
