"""Streams as servers wrote them that are not OpenAI's: what is missing in them is mended on the way.

Recorded from llama.cpp's server (`xllamacpp` wheel, SmolLM2-135M-Instruct), names shortened.
"""

from __future__ import annotations

import msgspec
from responses_kit import answering
from test_responses_stream_laws import MODELS, decoded, documents

from ostiary.core.usage import Usage
from ostiary.wire.conversation.fold import fold
from ostiary.wire.conversation.parts import Text
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.dialects.openai_responses.reply import decode_reply
from ostiary.wire.dialects.openai_responses.stream_encode import StreamEncoder

LLAMA = b"""event: response.created
data: {"type":"response.created","response":{"id":"resp_P","object":"response","status":"in_progress"}}

event: response.in_progress
data: {"type":"response.in_progress","response":{"id":"resp_P","object":"response","status":"in_progress"}}

event: response.output_item.added
data: {"type":"response.output_item.added","item":{"content":[],"id":"msg_c","role":"assistant",\
"status":"in_progress","type":"message"}}

event: response.content_part.added
data: {"type":"response.content_part.added","item_id":"msg_c","part":{"type":"output_text","text":""}}

event: response.output_text.delta
data: {"type":"response.output_text.delta","item_id":"msg_c","delta":"Hello"}

event: response.output_text.delta
data: {"type":"response.output_text.delta","item_id":"msg_c","delta":"!"}

event: response.output_text.done
data: {"type":"response.output_text.done","item_id":"msg_c","text":"Hello!"}

event: response.content_part.done
data: {"type":"response.content_part.done","item_id":"msg_c","part":{"type":"output_text","annotations":[],\
"logprobs":[],"text":"Hello!"}}

event: response.output_item.done
data: {"type":"response.output_item.done","item":{"type":"message","status":"completed","id":"msg_c",\
"content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"Hello!"}],"role":"assistant"}}

event: response.completed
data: {"type":"response.completed","response":{"id":"resp_P","object":"response","created_at":1795442577,\
"status":"completed","model":"smol","output":[{"type":"message","status":"completed","id":"msg_c",\
"content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"Hello!"}],"role":"assistant"}],\
"usage":{"input_tokens":31,"output_tokens":2,"total_tokens":33,"input_tokens_details":{"cached_tokens":5}}},\
"timings":{"cache_n":5,"prompt_n":26}}

"""
REPLY = Reply(
    choices=(Choice(0, (Text("Hello!"),), Finish(Reason.STOP)),), usage=Usage(31, 2, 5), id="resp_P", model="smol"
)


def test_a_stream_of_llama_cpp_tells_its_answer() -> None:
    assert fold(decoded([LLAMA])) == REPLY
    assert decode_reply(msgspec.json.encode(documents(LLAMA)[-1]["response"])) == REPLY


def test_a_stream_of_llama_cpp_reaches_a_client_as_the_official_sdk_expects_it() -> None:
    for event in documents(LLAMA)[2:]:
        assert not {"output_index", "sequence_number"} & set(event)
    writer = StreamEncoder(answering())
    written = b"".join([*map(writer.encode, decoded([LLAMA])), writer.end()])
    for event in documents(written):
        MODELS[event["type"]].model_validate_json(msgspec.json.encode(event), strict=True)
    assert fold(decoded([written])).choices == REPLY.choices
