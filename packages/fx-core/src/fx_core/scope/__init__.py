"""Scopes: variable collections and RNG streams by path."""
