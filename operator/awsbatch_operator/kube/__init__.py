"""The only room that talks to the Kubernetes API for the operator (Kopf's watch apart)."""
