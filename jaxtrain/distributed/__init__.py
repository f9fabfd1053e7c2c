"""How devices and processes share a run: the mesh, the partition of a state, the collectives of a step, failures."""
