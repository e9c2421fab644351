"""Observe, decide, act, write: the loop around the pure decision. Knows AWS and Kubernetes only through ports."""
