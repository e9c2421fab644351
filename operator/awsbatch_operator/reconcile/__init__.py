"""The decision table: computes status, termination and next poll from an object and its job. Pure functions."""
