"""What users write and read: typed models of the kinds, phases, conditions and reasons. Pure."""
