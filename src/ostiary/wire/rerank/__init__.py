"""Reranking: one request and reply, and the wire shapes that say them. It must not know providers."""
