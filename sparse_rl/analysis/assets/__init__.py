"""The page of a report: its style and its script."""
