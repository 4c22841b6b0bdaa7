"""The data plane: from a client's bytes to a provider and back, decided by policy, paid from the ledger."""
