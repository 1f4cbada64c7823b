"""Cages: what keeps a submitter's work apart from the node, and from everybody else's work.

A maker starts a program in a cage (`spec`, `makers`). There are several, for no kernel and no user may do everything;
which of them hold is found by attacking them (`proof`), never by looking at what the system says of itself.
"""
