"""The warden: the process that makes cages. It has no key, no network and no trio; the daemon has these and makes none.

The daemon asks for workers and hands over one end of each worker's socket, so that work itself never passes here.
"""
