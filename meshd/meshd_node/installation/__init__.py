"""Makes a node a service of its machine: what is to be done is a list of steps, which can be read before it is done."""
