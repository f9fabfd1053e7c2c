"""Distributed training: the mesh, sharding of the state, collectives of a step, and processes and their failures."""
