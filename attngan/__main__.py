"""`python -m attngan <command>`: the same as the `attngan` command."""

from attngan.cli.commands import main

if __name__ == "__main__":
    main()
