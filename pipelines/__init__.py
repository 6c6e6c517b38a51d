"""Jobs: each module is one, runs as `python -m pipelines.<name>`, and only puts the rooms of the library together."""
