"""AWS STS on loopback: roles of any account are assumed there, and the simulated Batch knows the credentials."""

from awsbatch_sandbox.sts.remote import RemoteSts
from awsbatch_sandbox.sts.server import serve
from awsbatch_sandbox.sts.simulator import StsSimulator

__all__ = ["RemoteSts", "StsSimulator", "serve"]
