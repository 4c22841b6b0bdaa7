"""The Cohere dialect: chat of version 2, whole and as a stream of server-sent events.

Source: the Cohere API reference (v2 chat), as the official Python SDK 7.3 types it.
"""
