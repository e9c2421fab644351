"""Typed models of the API: kinds, phases, conditions and reasons. Pure."""
