"""Working folders of tests that read a checkout and write nothing into it."""

import os
from pathlib import Path


class LinkedFolders:
    """Folders with links to what a checkout has: relative paths are read there, and written nowhere else.

    A folder serves one test after the other, until one leaves something in it: links take longer than most tests.

    Args:
        root: of the checkout.
        skipped: entries of it that have no link, beside hidden ones.
        parent: an empty folder for them.
    """

    def __init__(self, root: Path, skipped: tuple[str, ...], parent: Path):
        entries = [entry for entry in root.iterdir() if not entry.name.startswith(".") and entry.name not in skipped]
        self.targets = {entry.name: entry for entry in entries}
        self.parent, self.count = parent, 0
        self.folder = self.new()

    def new(self) -> Path:
        """One that nobody else has."""
        folder = self.parent / str(self.count)
        self.count += 1
        folder.mkdir()
        for name, target in self.targets.items():
            (folder / name).symlink_to(target)
        return folder

    def clean(self) -> Path:
        """One that holds its links and nothing else."""
        with os.scandir(self.folder) as found:
            as_made = {entry.name: entry.is_symlink() for entry in found} == dict.fromkeys(self.targets, True)
        if not as_made:
            self.folder = self.new()
        return self.folder
