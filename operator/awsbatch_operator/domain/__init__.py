"""What a Batch job, its object and a decision are. Pure: no I/O, no clock, no randomness, no framework."""
