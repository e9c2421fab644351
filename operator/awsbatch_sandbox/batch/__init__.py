"""A faithful in-memory AWS Batch on loopback."""

from awsbatch_sandbox.batch.remote import RemoteBatch
from awsbatch_sandbox.batch.server import serve
from awsbatch_sandbox.batch.simulator import BatchSimulator

__all__ = ["BatchSimulator", "RemoteBatch", "serve"]
