"""``python -m rsdl``: the same as the ``rsdl`` command."""

from rsdl.cli import main

if __name__ == "__main__":
    main()
