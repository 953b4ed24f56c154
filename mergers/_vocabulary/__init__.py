"""Vocabularies: which token is whose, and the rows of embeddings that belong to it."""
