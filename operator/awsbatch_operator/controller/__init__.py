"""Cache, work queue, reconciler, poller, terminator and status writer. Runs on one event loop."""
