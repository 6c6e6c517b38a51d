"""A/B experiments: what is declared, who sees which arm, the events that are kept, and what they say."""
