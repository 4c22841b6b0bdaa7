"""What requests may spend and what they spent: limits, one scope per request, the journal, and the way to the store."""
