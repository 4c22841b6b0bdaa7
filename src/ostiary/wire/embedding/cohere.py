"""Embeddings as Cohere's second interface says them: POST /v2/embed. It must not know Bedrock.

Source: official Python SDK cohere 7.3 (`v2.raw_client.embed`: ninety-six inputs per call; `EmbedByTypeResponse`).
"""

from __future__ import annotations

from ostiary.wire.embedding import cohere_wire as wire
from ostiary.wire.embedding.pivot import Cut
from ostiary.wire.embedding.shape import Shape

OWN = wire.Variant("cohere", {"NONE": Cut.NONE, "START": Cut.START, "END": Cut.END}, names_model=True)


SHAPE = Shape(
    name=OWN.name,
    path=lambda _: "/v2/embed",
    decode_request=lambda body: wire.decode_request(body, OWN),
    encode_request=lambda request: wire.encode_request(request, OWN),
    decode_reply=lambda body, asked: wire.decode_reply(body, asked, OWN),
    encode_reply=lambda reply, answering: wire.encode_reply(reply, answering, OWN),
    usage_of=wire.usage_of,
    most_inputs=96,
)
