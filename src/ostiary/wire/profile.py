"""What one model accepts: the name under which codecs know it. It must not add to it."""

from ostiary.core.profile import ANY, Profile, Thinks

__all__ = ["ANY", "Profile", "Thinks"]
