"""The first import of `conftest.py`: no garbage is searched for while all of the tests are imported."""

import gc

gc.disable()


def all_is_imported() -> None:
    """Nearly all of these million objects stay: the collector looks for others alone."""
    gc.collect()
    gc.freeze()
    gc.enable()
