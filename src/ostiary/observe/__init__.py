"""What the operator sees: metrics and logs, without content, secrets or identities."""
