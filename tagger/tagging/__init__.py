"""Embeddings -> tags."""
