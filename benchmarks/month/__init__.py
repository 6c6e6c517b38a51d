"""A month of the daily loop on a simulated market, against a model that is never retrained."""
