"""The parts of the first schema. They must not change any more, nor import what may change."""
