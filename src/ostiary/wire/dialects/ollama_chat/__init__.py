"""The Ollama dialect: its native chat, whole and as a stream of JSON lines.

Source: Ollama's API documentation and OpenAPI description (`/api/chat`), as the official Python package 0.6 types it.
"""
