"""Embeddings as Cohere's models take them through Bedrock's InvokeModel. It must not know Cohere's own interface.

Source: Amazon Bedrock user guide, Cohere Embed v3 and v4 (ninety-six inputs per call). The generations have other words
for where an input is cut; v3 knows no length of vectors and no mixed inputs; v4 says an image's address bare. The use
is stated in a header of the answer and not in its body.
"""

from __future__ import annotations

from ostiary.wire.embedding import cohere_wire as wire
from ostiary.wire.embedding.invoke import invoke_path
from ostiary.wire.embedding.pivot import Cut
from ostiary.wire.embedding.shape import Shape

THIRD = wire.Variant(
    "bedrock_cohere_v3", {"NONE": Cut.NONE, "START": Cut.START, "END": Cut.END}, modern=False, nested=False
)
FOURTH = wire.Variant("bedrock_cohere_v4", {"NONE": Cut.NONE, "LEFT": Cut.START, "RIGHT": Cut.END}, nested=False)


SHAPE_V3 = Shape(
    name=THIRD.name,
    path=invoke_path,
    decode_request=lambda body: wire.decode_request(body, THIRD),
    encode_request=lambda request: wire.encode_request(request, THIRD),
    decode_reply=lambda body, asked: wire.decode_reply(body, asked, THIRD),
    encode_reply=lambda reply, answering: wire.encode_reply(reply, answering, THIRD),
    usage_of=wire.usage_of,
    most_inputs=96,
)
SHAPE_V4 = Shape(
    name=FOURTH.name,
    path=invoke_path,
    decode_request=lambda body: wire.decode_request(body, FOURTH),
    encode_request=lambda request: wire.encode_request(request, FOURTH),
    decode_reply=lambda body, asked: wire.decode_reply(body, asked, FOURTH),
    encode_reply=lambda reply, answering: wire.encode_reply(reply, answering, FOURTH),
    usage_of=wire.usage_of,
    most_inputs=96,
)
