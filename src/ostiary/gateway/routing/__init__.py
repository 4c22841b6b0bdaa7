"""Which deployment serves a request, in which order, and what follows a failure. Pure: time and chance are given."""
