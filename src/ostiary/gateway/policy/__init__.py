"""Pure questions about who is calling and what he may use. No clock, no socket, no randomness of its own."""
