"""The daily loop's own parts: its config, what became of a day's attempt, and logs that are refused."""
