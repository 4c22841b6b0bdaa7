"""Data, not code: providers, models and prices, and their loaders."""
