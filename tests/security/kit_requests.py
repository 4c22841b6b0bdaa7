"""What the tests of hostile requests share: forms, and the judgement of what reached the provider."""

from __future__ import annotations

from ostiary.testing.factories import PROVIDER_KEY
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawAnswer

CANARY = "sk-attacker-supplied-credential"


def unharmed(provider: FakeProvider, before: int, sent: bytes | None) -> None:
    """Nothing arrived, or one request: the client's bytes but for the model's name, our credential, our path."""
    arrived = provider.requests[before:]
    assert len(arrived) <= 1
    for seen in arrived:
        assert seen.model != "u-secret"
        assert seen.header("authorization") == [f"Bearer {PROVIDER_KEY}"]
        assert "?" not in seen.target
        assert CANARY not in str(seen.headers)
        assert "org-attacker" not in str(seen.headers)
        if sent is not None:
            assert seen.body == sent.replace(b'"cheap"', b'"u-cheap"', 1)


def refused_or_served(answer: RawAnswer) -> None:
    assert answer.status in (200, 400), answer.body
    if answer.status == 200:
        assert b"mocked" not in answer.body


def form(boundary: str, *parts: tuple[str, str], content: str = "sound") -> bytes:
    written = [f'--{boundary}\r\ncontent-disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in parts]
    file = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n{content}\r\n'
    return ("".join(written) + file + f"--{boundary}--\r\n").encode()
