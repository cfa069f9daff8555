"""The report of a sweep: `results` gathers what its nodes left, `figures` and `charts` draw it, `report` writes it."""
