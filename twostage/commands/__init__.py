"""What each command does with its options: a file or folder of its name, with `run`."""
