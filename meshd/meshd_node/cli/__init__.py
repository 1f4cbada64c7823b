"""The command line: a verb is a module; its function goes from arguments, client and output to an exit code."""
