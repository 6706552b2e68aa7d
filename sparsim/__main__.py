"""``python -m sparsim``."""

from sparsim.cli import main

if __name__ == "__main__":
    main()
