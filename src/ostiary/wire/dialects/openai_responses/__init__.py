"""The OpenAI Responses dialect: items in, items out, and a stream of named events.

Source: the OpenAI API reference (responses), as the official Python SDK 3.54 types it in `types.responses`.
"""
