"""Sans-io framers: bytes in any pieces in, whole frames out."""
