"""Queues, rate limiters and clocks. Standard library only; knows neither Kubernetes nor AWS."""
