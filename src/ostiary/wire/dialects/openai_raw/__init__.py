"""OpenAI-shaped operations that are relayed, metered and limited without translation (`Operation.RAW`)."""
