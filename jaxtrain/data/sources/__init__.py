"""Sources: each one finds the files of a data set and reads its splits on demand."""
