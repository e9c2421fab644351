"""Clients of the Kubernetes API: BatchJobs, policies, Events and the Lease. Kopf's watch is in `handlers`."""
