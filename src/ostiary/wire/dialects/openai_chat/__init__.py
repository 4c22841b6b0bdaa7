"""The OpenAI chat dialect: chat completions, legacy completions and embeddings share its envelope and usage grammar.

Source: the OpenAI API reference (chat, completions, embeddings), as the official Python SDK 3.54 types it.
"""
