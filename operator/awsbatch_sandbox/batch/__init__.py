"""A faithful in-memory AWS Batch on loopback."""
