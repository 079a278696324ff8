"""One program for each client. All take the same command line, and print one JSON line."""
