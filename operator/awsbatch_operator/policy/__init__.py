"""Selects the BatchAccessPolicy of a namespace and evaluates it. Pure."""
