"""The only package that imports kopf: Kopf watches BatchJobs for the controller and never writes."""
