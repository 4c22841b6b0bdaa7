"""The Anthropic Messages dialect: messages and the counting of their tokens, in its versions 2023-06-01 and 2026-10-21.

Source: the Anthropic API as the official Python SDKs type it, 2.12 (2026-10-21) and 1.17 (2023-06-01), `types.*`.
"""
