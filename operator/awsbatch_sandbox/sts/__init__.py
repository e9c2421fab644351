"""AWS STS on loopback: roles of any account are assumed there, and the simulated Batch knows the credentials."""
