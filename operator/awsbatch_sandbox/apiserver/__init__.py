"""A small Kubernetes API server in memory, on loopback: for a machine without a cluster. It is not Kubernetes.

`async with serve(ApiServer(load_definitions([Path("crds")]))) as url:`, of `server`, or
`python -m awsbatch_sandbox.apiserver`.
"""
