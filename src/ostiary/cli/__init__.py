"""The command line, and `bootstrap`, the only place that wires the floors of the house together."""
