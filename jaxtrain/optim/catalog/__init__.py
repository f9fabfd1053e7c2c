"""The tables of what `jaxtrain.optim` offers, one file a kind; they name factories and import none."""
