"""The command line: one file per command, which parses arguments, calls the library and prints the result."""
