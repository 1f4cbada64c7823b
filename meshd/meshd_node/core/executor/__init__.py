"""The executor: runs other people's units on this node's workers, and says what came out."""
