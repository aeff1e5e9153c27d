"""`python -m flows.cli` is `assay`."""

from flows.cli import main

if __name__ == "__main__":
    main()
