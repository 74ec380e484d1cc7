"""Pixels -> embeddings."""
