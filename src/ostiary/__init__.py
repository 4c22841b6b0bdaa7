"""Ostiary: a self-hosted AI gateway. Importing the package does nothing."""

__version__ = "0.1.0"
