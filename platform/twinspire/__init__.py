"""Twinspire: personalised semantic retrieval for e-commerce search."""

__version__ = "0.1.0"
