"""Text to ids: the normal form of a query, the one tokeniser, and the vocabulary of an embedding table."""

from twinspire.text.normalise import normalise, normalise_column
from twinspire.text.tokeniser import Tokeniser, TokeniserConfig, Tokens
from twinspire.text.vocabulary import Vocabulary, count

__all__ = ["Tokeniser", "TokeniserConfig", "Tokens", "Vocabulary", "count", "normalise", "normalise_column"]
