"""Kopf, and only here: it watches BatchJobs and tells the engine; it never writes."""
