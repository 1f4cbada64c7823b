"""The directory of thousands of nodes in virtual time: `python -m meshd_sim.directory`."""
