"""One question, one command: which of these autoencoders lets a generator learn faster, within a given time?

`contestants` and `images` read what is compared and on what, `files` writes the sweep that compares it, `timing` takes
the time of its parts, `budget` plans with them, `run` does it all.
"""

DEFAULT_IMAGES = "scenes:2000"
"""Images that are compared on where none are named; here, because the command's help needs nothing else."""
