"""One file a command: the only places where rooms are built, run and their results printed."""
