"""Capacity: what this machine has to lend, by what it may use and not by what is built in.

Every reader takes the file system's root or the library that it reads from as an argument.
"""
