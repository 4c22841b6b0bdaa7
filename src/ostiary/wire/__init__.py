"""What the formats say: pure codecs and framers. Bytes and values in, values and bytes out; no socket, clock or log."""
