"""The charter: what this machine's operator lends, to whom, when and how well caged. Rules, and what they go by."""
