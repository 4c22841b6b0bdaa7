"""Members as Google's JSON parser reads them, and the decoders all modules here share. It must not know any message.

Source: the ProtoJSON format: a member may be written in lowerCamelCase or by the name of its field, in snake_case.
Lists of one may stand without brackets, as many examples of the Gemini reference have them.
"""

from __future__ import annotations

import re

import msgspec

from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.parts import Reasoning, Seal
from ostiary.wire.conversation.seals import carried, carry, thoughts_carried

DIALECT = "gemini_generate"
SIGNATURE = "thoughtSignature"
# What Google documents for histories that another model wrote: the call it stands with is not checked for its proof.
UNCHECKED = "skip_thought_signature_validator"
STRING = msgspec.json.Decoder(str)
INTEGER = msgspec.json.Decoder(int)
NUMBER = msgspec.json.Decoder(int | float)
FLAG = msgspec.json.Decoder(bool)
STRINGS = msgspec.json.Decoder(list[str])
RAW = msgspec.json.Decoder(msgspec.Raw)
RAWS = msgspec.json.Decoder(list[msgspec.Raw])
LABELS = msgspec.json.Decoder(dict[str, str])
OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
encode = msgspec.json.Encoder().encode

_SNAKE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+", re.ASCII)


def camel(name: str) -> str:
    """The lowerCamelCase spelling of a field's name; any other word stays."""
    if "_" not in name or not _SNAKE.fullmatch(name):
        return name
    first, *more = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in more)


class Fields(Members):
    """The members of one object, each under its lowerCamelCase name. Where both spellings stand, the other is rest."""

    __slots__ = ()

    @classmethod
    def of(cls, raw: bytes | msgspec.Raw) -> Fields | None:
        """The members of an object; None for anything else."""
        found = super().of(raw)
        if found is None:
            return None
        left = found._left
        if any("_" in name for name in left):
            left = {name if camel(name) in left else camel(name): value for name, value in left.items()}
        return cls(left)

    def inside(self, name: str) -> Fields:
        """The members of an object within; none where there is no such object. Ask once for each name."""
        raw = self._left.get(name)
        found = Fields.of(raw) if raw is not None else None
        if found is None or not found._left:
            return Fields({})
        del self._left[name]
        self._inside[name] = found
        return found

    def items(self, name: str) -> list[msgspec.Raw] | None:
        """A member that is a list, or one object that stands for a list of one; None where it is neither."""
        found = self.take(name, RAWS)
        return found if found is not None or (one := self.object(name)) is None else [one]

    def object(self, name: str) -> msgspec.Raw | None:
        """A member that is an object, as it stands; any other value is left."""
        raw = self._left.get(name)
        if raw is None or not bytes(raw).lstrip().startswith(b"{"):
            return None
        return self.take(name, RAW)

    def among(self, names: frozenset[str]) -> frozenset[str]:
        """Those of `names` that are here."""
        return names.intersection(self._left)

    @property
    def empty(self) -> bool:
        """Whether nothing is left."""
        return not self._remains()


def take_seal(members: Fields) -> Seal | None:
    """The proof that stands with a part; the word that stands for none is none."""
    said = members.take(SIGNATURE, STRING)
    if not said or said == UNCHECKED:
        return None
    return carried(said, DIALECT)[0]


def take_thoughts(members: Fields) -> tuple[Reasoning, ...]:
    """The thoughts of another model that travel with a call in the place of its proof; none where a proof stands."""
    said = members.take(SIGNATURE, STRING)
    thoughts = thoughts_carried(said) if said is not None else ()
    if said is not None and not thoughts:
        members.put_back(SIGNATURE, msgspec.Raw(encode(said)))
    return thoughts


def signature(seal: Seal) -> str:
    """The text of a proof in this dialect; a foreign one travels within."""
    return seal.value if seal.issuer == DIALECT else carry(seal)
