"""Fresh seeds of a published study: its report is read (`studies`), its sweep run again with other seeds (`run`)."""

from typing import TYPE_CHECKING

from eqvae.lazy import pass_on

if TYPE_CHECKING:
    from twostage.verify.run import verify
    from twostage.verify.studies import find_study, read_study

__all__ = ["find_study", "read_study", "verify"]

__getattr__, __dir__ = pass_on(
    __name__,
    {
        "verify": "twostage.verify.run",
        "find_study": "twostage.verify.studies",
        "read_study": "twostage.verify.studies",
    },
)
