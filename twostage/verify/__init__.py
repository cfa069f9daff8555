"""Fresh seeds of a published study: its report is read (`studies`), its sweep run again with other seeds (`run`)."""

from twostage.verify.run import verify
from twostage.verify.studies import find_study, read_study

__all__ = ["find_study", "read_study", "verify"]
