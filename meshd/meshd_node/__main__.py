"""`python -m meshd_node` is the script `meshd`."""

from meshd_node.cli.main import main

if __name__ == "__main__":
    main()
