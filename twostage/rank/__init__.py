"""Many reports in one table: `boards` ranks what can be compared, `files` writes the page and the exports."""
