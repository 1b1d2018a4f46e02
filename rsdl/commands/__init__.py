"""The commands, one file each: only they wire packages together, run them and print results."""
