"""A small Kubernetes API server in memory, on loopback: for a machine without a cluster. It is not Kubernetes.

`async with serve(ApiServer(load_definitions([Path("crds")]))) as url:` or `python -m awsbatch_sandbox.apiserver`.
"""

from awsbatch_sandbox.apiserver.server import ApiServer, load_definitions, serve

__all__ = ["ApiServer", "load_definitions", "serve"]
