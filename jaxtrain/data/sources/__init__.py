"""Sources: each finds the files of a data set, and reads a split into arrays when it is asked for."""
