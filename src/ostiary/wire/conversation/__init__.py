"""The pivot: one conversation, reply and stream of events, richer than any dialect. It must not know a wire format."""
