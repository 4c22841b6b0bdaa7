"""Streams: what goes through, what silence does, who waits for whom, and that the last byte waits for the journal."""

from __future__ import annotations

import asyncio

import pytest
from kit import ask, deployment, key, once, room, run, snapshot
from kit_client import RecordingInbound
from kit_provider import DONE, EVENTS, JSON, STREAM, USAGE, Play, broken, chunk, event, refusal, reply

from ostiary.core.fault import Kind
from ostiary.core.record import Outcome
from ostiary.core.snapshot import LimitSettings
from ostiary.core.usage import Usage
from ostiary.wire.dialects.openai_chat.wire import DIALECT

PING = DIALECT.ping
GPT = deployment("gpt")
PLAIN = snapshot(GPT)
QUIET = snapshot(GPT, limits=LimitSettings(ping_seconds=15.0, default_output_estimate=100))


def streamed(**fields: object) -> RecordingInbound:
    return RecordingInbound(ask(stream=True, **fields))


def test_a_stream_is_relayed_metered_and_recorded_before_its_last_byte() -> None:
    made, inbound = once(PLAIN, Play(*STREAM), inbound=streamed())
    assert (inbound.status, inbound.ended) == (200, "end")
    assert inbound.head["content-type"] == "text/event-stream"
    assert inbound.head["cache-control"] == "no-cache"
    assert "x-litellm-response-cost" not in inbound.head
    record = made.record
    assert (record.outcome, record.usage, record.measured, record.cost) == (
        Outcome.COMPLETED,
        Usage(10, 5),
        True,
        20000,
    )
    assert record.stream
    assert record.first_byte >= record.started
    assert inbound.journal_at_end == [record]
    assert inbound.sent == b"".join(step for step in STREAM if step != USAGE), "usage nobody asked for stays here"
    assert b'"include_usage":true' in made.upstream.sent[0].body


def test_usage_that_was_asked_for_is_passed_on() -> None:
    _, inbound = once(PLAIN, Play(*STREAM), inbound=streamed(stream_options={"include_usage": True}))
    assert inbound.sent == b"".join(STREAM)


def test_a_provider_that_cannot_state_usage_is_not_asked_to() -> None:
    made, _ = once(snapshot(deployment("gpt", usage_in_stream=False)), Play(*STREAM), inbound=streamed())
    assert b"stream_options" not in made.upstream.sent[0].body


def test_a_stream_without_usage_costs_its_input_and_its_events() -> None:
    made, inbound = once(PLAIN, Play(chunk("a"), chunk("b"), chunk("", "stop"), DONE), inbound=streamed())
    record = made.record
    assert (record.outcome, record.measured, record.usage.output) == (Outcome.COMPLETED, False, 3)
    assert record.usage.input == len(ask(stream=True)) // 3 + 1
    assert record.cost == record.usage.input * 1000 + 3 * 2000
    assert inbound.ended == "end"


def test_a_stream_that_was_not_asked_for_is_relayed_without_comments() -> None:
    made, inbound = once(QUIET, Play(chunk("a"), 60.0, *STREAM[1:]))
    assert (inbound.status, inbound.ended, made.record.outcome) == (200, "end", Outcome.COMPLETED)
    assert PING not in inbound.sent


# --- silence ---


def test_silence_is_filled_with_comments() -> None:
    made, inbound = once(QUIET, Play(chunk("a"), 50.0, *STREAM[1:]), inbound=streamed())
    assert inbound.sent.count(PING) == 3
    assert inbound.sent.replace(PING, b"") == b"".join(step for step in STREAM if step != USAGE)
    assert made.record.outcome is Outcome.COMPLETED


def test_a_comment_before_the_first_event_begins_the_answer() -> None:
    made, inbound = once(QUIET, Play(*STREAM, wait=20.0), inbound=streamed())
    assert inbound.sent.startswith(PING + STREAM[0])
    assert inbound.head["content-type"] == "text/event-stream"
    assert made.record.first_byte - made.record.started == pytest.approx(15_000, abs=200)


def test_after_a_comment_no_other_target_is_tried_and_the_error_is_an_event() -> None:
    late = Play(wait=20.0, raises=broken(Kind.CONNECT))
    made, inbound = once(QUIET, late, inbound=streamed())
    assert inbound.sent.startswith(PING + b'data: {"error":')
    assert (inbound.ended, len(made.upstream.sent)) == ("end", 1)
    assert DONE not in inbound.sent
    assert made.record.outcome is Outcome.TRUNCATED


def test_a_comment_during_a_retry_is_an_event_stream_whatever_the_failed_attempt_was() -> None:
    failed = refusal(500, (b"x-request-id", b"of-the-failed-one"))
    _, inbound = once(QUIET, failed, Play(*STREAM, wait=20.0), inbound=streamed())
    assert inbound.head["content-type"] == "text/event-stream"
    assert "of-the-failed-one" not in inbound.head.values()
    assert inbound.sent.startswith(PING + STREAM[0])


def test_a_comment_while_an_error_document_arrives_is_an_event_stream() -> None:
    slow = Play(b'{"error":', 20.0, b'{"message":"no"}}', status=500, headers=[JSON])
    _, inbound = once(QUIET, slow, inbound=streamed())
    assert inbound.head["content-type"] == "text/event-stream"
    assert inbound.sent.startswith(PING + b'data: {"error":')


def test_a_document_in_place_of_a_stream_is_passed_on_unless_comments_have_gone_out() -> None:
    made, inbound = once(QUIET, reply(), inbound=streamed())
    assert (inbound.status, inbound.head["content-type"]) == (200, "application/json")
    late = reply()
    late.steps = (20.0, *late.steps)
    made, inbound = once(QUIET, late, inbound=streamed())
    assert inbound.head["content-type"] == "text/event-stream"
    assert b"chatcmpl-1" not in inbound.sent
    assert (inbound.ended, made.record.fault) == ("end", "bad_answer")


def test_bytes_that_are_no_events_get_no_comments() -> None:
    picture = deployment("art", mode="image_generation")
    policy = snapshot(picture, limits=LimitSettings(ping_seconds=15.0))
    asked = RecordingInbound(ask("art", stream=True), path="/v1/images/generations")
    play = Play(b"\x89PNG", 40.0, b"\x00end", headers=[(b"content-type", b"image/png")])
    _, inbound = once(policy, play, inbound=asked)
    assert inbound.sent == b"\x89PNG\x00end"
    assert (inbound.head["content-type"], inbound.ended) == ("image/png", "end")


def test_law_6_broken_bytes_that_are_no_events_are_cut() -> None:
    picture = deployment("art", mode="image_generation")
    asked = RecordingInbound(ask("art", stream=True), path="/v1/images/generations")
    play = Play(b"\x89PNG", broken(), headers=[(b"content-type", b"image/png")])
    made, inbound = once(snapshot(picture), play, inbound=asked)
    assert (inbound.sent, inbound.ended) == (b"\x89PNG", "abort")
    assert made.record.outcome is Outcome.TRUNCATED


def test_bytes_cannot_follow_a_comment() -> None:
    picture = deployment("art", mode="image_generation")
    policy = snapshot(picture, limits=LimitSettings(ping_seconds=15.0))
    asked = RecordingInbound(ask("art", stream=True), path="/v1/images/generations")
    play = Play(b"\x89PNG", headers=[(b"content-type", b"image/png")], wait=20.0)
    _made, inbound = once(policy, play, inbound=asked)
    assert b"PNG" not in inbound.sent
    assert (inbound.head["content-type"], inbound.ended) == ("text/event-stream", "end")
    assert play.aborted


# --- law 6 ---

CUTS = [
    ("without an end", (chunk("a"),)),
    ("after a choice of two", (chunk("a"), event(choices=[{"index": 1, "delta": {}}]), chunk("", "stop"))),
    ("by an error event", (chunk("a"), event(error={"message": "overloaded", "code": 503}), DONE)),
    ("by rubbish", (chunk("a"), b"data: {rubbish\n\n", DONE)),
    ("by its transport", (chunk("a"), broken())),
    ("by a time-out", (chunk("a"), broken(Kind.TIMEOUT))),
]


@pytest.mark.parametrize("steps", [row[1] for row in CUTS], ids=[row[0] for row in CUTS])
def test_law_6_a_truncated_stream_never_ends_like_a_whole_one(steps: tuple[bytes, ...]) -> None:
    made, inbound = once(PLAIN, Play(*steps), inbound=streamed())
    assert DONE not in inbound.sent
    assert inbound.sent.startswith(chunk("a"))
    assert inbound.sent.rpartition(b"data: ")[2].startswith(b'{"error":')
    assert made.record.outcome is Outcome.TRUNCATED
    assert inbound.journal_at_end == [made.record]
    assert made.record.usage.output >= 1
    assert not made.record.measured


def test_law_6_a_cut_answer_without_events_is_cut_for_the_client() -> None:
    sound = deployment("tts", mode="audio_speech")
    asked = RecordingInbound(b'{"model":"tts","input":"four"}', path="/v1/audio/speech")
    made, inbound = once(
        snapshot(sound), Play(b"ID3", broken(), headers=[(b"content-type", b"audio/mpeg")]), inbound=asked
    )
    assert (inbound.sent, inbound.ended, made.record.outcome) == (b"ID3", "abort", Outcome.TRUNCATED)
    assert made.record.usage == Usage(characters=4)


def test_an_answer_of_sound_is_metered_by_what_was_asked() -> None:
    sound = deployment("tts", mode="audio_speech")
    asked = RecordingInbound(b'{"model":"tts","input":"four"}', path="/v1/audio/speech")
    made, inbound = once(
        snapshot(sound), Play(b"ID3", b"abc", headers=[(b"content-type", b"audio/mpeg")]), inbound=asked
    )
    assert (inbound.sent, inbound.ended, inbound.head["content-type"]) == (b"ID3abc", "end", "audio/mpeg")
    assert (made.record.outcome, made.record.usage) == (Outcome.COMPLETED, Usage(characters=4))


# --- backpressure ---


def test_a_client_that_does_not_read_holds_the_provider() -> None:
    async def go() -> None:
        play = Play(*STREAM)
        with room(PLAIN, play) as made:
            inbound = streamed()
            inbound.writable = False
            task = made.begin(inbound)
            await asyncio.sleep(30)
            assert (play.held, inbound.ended) == (1, "")
            inbound.writable = True
            assert inbound.on_writable is not None
            inbound.on_writable()
            await task
            assert inbound.ended == "end"
            assert inbound.on_writable is inbound.on_blocked is None

    run(go())


# --- the key is taken away ---


def cancelled_in(play: Play, inbound: RecordingInbound, after: float) -> tuple[RecordingInbound, object]:
    async def go() -> object:
        with room(QUIET, play) as made:
            task = made.begin(inbound)
            await asyncio.sleep(after)
            made.plane.keys.put(key(revision=1, blocked=True), cancel_in_flight=True)
            await task
            return made.record

    return inbound, run(go())


def test_a_key_blocked_with_cancel_ends_its_streams_with_an_error() -> None:
    play = Play(chunk("a"), 5.0, *STREAM[1:])
    inbound, record = cancelled_in(play, streamed(), 1.0)
    assert play.aborted
    assert inbound.sent.startswith(chunk("a") + b'data: {"error":')
    assert b"blocked" in inbound.sent
    assert inbound.ended == "end"
    assert (record.outcome, record.fault, record.usage.output) == (Outcome.BLOCKED, "blocked_key", 1)  # type: ignore[attr-defined]


def test_a_key_blocked_before_the_answer_gets_401_and_pays_the_estimate() -> None:
    inbound, record = cancelled_in(Play(*STREAM, wait=5.0), RecordingInbound(ask()), 1.0)
    assert (inbound.status, inbound.error["type"]) == (401, "auth_error")
    assert (record.outcome, record.status) == (Outcome.BLOCKED, 401)  # type: ignore[attr-defined]
    assert record.cost > 0  # type: ignore[attr-defined]


def test_a_key_blocked_before_anything_was_sent_pays_nothing() -> None:
    inbound = RecordingInbound(ask())
    inbound.body_wait = 5.0
    inbound, record = cancelled_in(Play(*STREAM), inbound, 1.0)
    assert inbound.status == 401
    assert (record.outcome, record.cost, record.usage) == (Outcome.BLOCKED, 0, Usage())  # type: ignore[attr-defined]


def test_a_gateway_that_stops_says_so() -> None:
    async def go() -> None:
        with room(PLAIN, Play(chunk("a"), 50.0)) as made:
            inbound = streamed()
            task = made.begin(inbound)
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert b"the gateway is stopping" in inbound.sent
            assert (made.record.outcome, made.record.status) == (Outcome.TRUNCATED, 503)

    run(go())


def test_the_demo_model_answers_without_a_socket() -> None:
    demo = deployment("demo", scheme="demo", host="", credential=None)
    made, inbound = once(snapshot(demo), inbound=RecordingInbound(ask("demo", stream=True)))
    assert inbound.sent.endswith(DONE)
    assert made.upstream.sent == []
    assert (made.record.outcome, made.record.measured) == (Outcome.COMPLETED, True)
    assert made.record.usage.output > 10
    assert EVENTS[1].decode() in inbound.head["content-type"]
