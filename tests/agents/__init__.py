"""Coding agents, headless and unmodified, through the gateway to scripted providers of other dialects.

Not part of the suite, because the agents are a gigabyte: `make agents` installs and runs them.
"""
