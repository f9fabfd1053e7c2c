"""Registries of the components in `jaxtrain.optim`, one file per kind; entries name factories and import none."""
