"""Which BatchAccessPolicy applies to a namespace, and what it allows. Pure."""
