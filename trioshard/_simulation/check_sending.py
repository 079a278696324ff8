"""I1, I2, I5 and I6: what the shard wrote, against the rules, the callers, and the other end."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from trioshard import Phase
from trioshard._simulation.books import HANDSHAKES, HEARTBEAT, IDENTIFY, PRESENCE, RESUME, SLACK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trioshard._simulation.books import Books
    from trioshard._simulation.records import Call, Dialled, Write

__all__ = [
    "addresses",
    "arrivals",
    "goodbyes",
    "handshakes",
    "identities",
    "interruptions",
    "legality",
    "order",
    "presences",
    "pulses",
    "receipts",
]

PHASE_OF: Final = {IDENTIFY: Phase.IDENTIFYING, RESUME: Phase.RESUMING}
"""A handshake moves the phase before its first byte leaves."""

ROOMY: Final = 100
"""A queue with room for so many is never full."""

LEAVING: Final = 2.0
"""Seconds that a write in flight gets when the block is left."""

TURN: Final = 2
"""Failures to connect after which the other URL has its turn."""

IDENTIFY_SPACING: Final = 5.0
"""Seconds."""


def legality(books: Books) -> Iterator[str]:
    """No payload outside its phase, seen from both ends."""
    for violation in books.report.violation_list:
        yield f"at {violation.time:.4f} on line {violation.connection_id} {violation.kind}: {violation.detail}"
    for write in books.records.writes:
        fault = _fault(books, write)
        if fault:
            yield f"at {write.begun:.4f} op {write.opcode} began to leave on line {write.line}{fault}"
    for number, transcript in books.transcripts.items():
        if transcript.strange:
            yield f"line {number} has {transcript.strange}"
        if transcript.after_close:
            yield f"line {number} goes on after a close frame"
        if any(frame.whole and frame.opcode is None for frame in transcript.frames):
            yield f"line {number} has a frame that is no payload"


def _fault(books: Books, write: Write) -> str:
    if write.after_end:
        return " after the end of the connection"
    if _went_on(books, write):
        return ", and went on after the end of the connection"
    if write.opcode != HEARTBEAT and write.phase is not PHASE_OF.get(write.opcode, Phase.READY):
        return f" while {write.phase.value}"
    return ""


def _went_on(books: Books, write: Write) -> bool:
    """Whether the last byte left after the end was read. (In that very moment it may: it waited for room.)"""
    ended = books.lines[write.line].ended if write.line in books.lines else None
    return ended is not None and write.finished is not None and write.finished > ended + SLACK


def receipts(books: Books) -> Iterator[str]:
    """What callers were told, against the wire."""
    for call in books.records.calls.values():
        lines = books.whole.get(call.tag, [])
        if len(lines) > 1:
            yield f"command {call.tag} was written whole on lines {lines}"
        match call.answer:
            case "receipt":
                yield from _receipt(books, call, lines)
            case "withdrawn" | "closed" | "refused" if lines:
                yield f"command {call.tag} was {call.answer}, and is on line {lines[0]}"
            case "pending":
                yield f"command {call.tag} was never answered"
            case "queued" if not lines and books.world.settled and call.opcode != PRESENCE:
                yield f"command {call.tag} was accepted without waiting, and never written"
            case _:
                pass
        yield from _patience(books, call)
        if call.answer == "withdrawn" and call.cancelled is None:
            yield f"command {call.tag} was withdrawn, and nobody had cancelled it"


def _patience(books: Books, call: Call) -> Iterator[str]:
    """Whoever is cancelled goes free at once, or when the write is over that is under way."""
    if call.cancelled is None or call.answered is None:
        return
    waited = call.answered - call.cancelled - books.lost_between(call.asked, call.answered)
    if waited > books.world.setup.write_timeout + SLACK:
        yield f"the caller of {call.tag} was cancelled at {call.cancelled:.4f}, and went free {waited:.3f} s later"


def _receipt(books: Books, call: Call, lines: list[int]) -> Iterator[str]:
    receipt = call.receipt
    assert receipt is not None
    if receipt.superseded:
        if call.opcode != PRESENCE:
            yield f"command {call.tag} is no presence, and was superseded"
        if lines:
            yield f"presence {call.tag} was superseded, and is on line {lines[0]}"
        return
    if not lines:
        yield f"command {call.tag} has a receipt, and is on no line"
        return
    dialled = books.lines[lines[0]]
    if receipt.epoch != dialled.epoch:
        yield f"command {call.tag} has a receipt of epoch {receipt.epoch}, and is on epoch {dialled.epoch}"
    if receipt.attempts < 1 or receipt.written < call.asked or receipt.waited < 0.0:
        yield f"command {call.tag} has an impossible receipt: {receipt}"
    yield from _details(books, call, dialled)
    if call.answered is not None and call.answered > receipt.written + SLACK and not books.jumped(receipt.written):
        yield f"command {call.tag} was written at {receipt.written:.4f}, and its caller heard of it later"


def _details(books: Books, call: Call, dialled: Dialled) -> Iterator[str]:
    """What a receipt says of the session, the sequence, and the attempts."""
    receipt = call.receipt
    assert receipt is not None
    session_ids = {opening.session_id for opening in books.records.openings if opening.at == dialled.opened}
    if receipt.session_id not in session_ids:
        yield f"command {call.tag} has a receipt of session {receipt.session_id}, and was written in {session_ids}"
    begun = [write for write in books.records.writes if write.tag == call.tag]
    if receipt.attempts != len(begun):
        yield f"command {call.tag} has a receipt of {receipt.attempts} attempts, and took {len(begun)}"
    earliest, latest = begun[-1].sequences
    if not (earliest or 0) <= (receipt.sequence_at_send or 0) <= (latest or 0):
        yield f"command {call.tag} has a receipt of sequence {receipt.sequence_at_send}, and was written at {latest}"


def arrivals(books: Books) -> Iterator[str]:
    """What arrived is what was written first, in the same order: the line may end before the rest arrives."""
    arrived: dict[int, list[int | None]] = defaultdict(list)
    # What crosses an Invalid Session or a close comes after everything that was in time.
    for arrival in (*books.report.commands, *books.report.crossings):
        if arrival.op not in (HEARTBEAT, *HANDSHAKES):
            arrived[arrival.connection_id].append(tag_in(arrival.op, arrival.data))
    for connection_id, tags in arrived.items():
        number = books.world.weather.line_of[connection_id]
        written = [frame.tag for frame in books.transcripts[number].frames if frame.tag is not None]
        if tags != written[: len(tags)]:
            yield f"line {number}: what arrived is not what was written"


def order(books: Books) -> Iterator[str]:
    """Commands of one caller leave in the order in which they came; a presence may wait for a newer one."""
    newest: dict[str, int] = {}
    for number in sorted(books.transcripts):
        for frame in books.transcripts[number].frames:
            call = None if frame.tag is None else books.records.calls.get(frame.tag)
            if call is None or call.opcode == PRESENCE:
                continue
            if call.tag < newest.get(call.caller, 0):
                yield f"command {call.tag} of {call.caller} left after {newest[call.caller]}"
            newest[call.caller] = max(call.tag, newest.get(call.caller, 0))


def presences(books: Books) -> Iterator[str]:
    """A newer presence takes the turn of one that still waits."""
    calls = [call for call in books.records.calls.values() if call.opcode == PRESENCE]
    asked = -1.0
    for number in sorted(books.transcripts):
        for frame in books.transcripts[number].frames:
            call = None if frame.tag is None else books.records.calls.get(frame.tag)
            if call is None or call.opcode != PRESENCE:
                continue
            if call.asked < asked:
                yield f"presence {call.tag} left after a newer one"
            asked = max(asked, call.asked)
            if call.receipt is not None:
                yield from _passed_over(books, call, calls)


def _passed_over(books: Books, call: Call, presences: Iterable[Call]) -> Iterator[str]:
    assert call.receipt is not None
    written = call.receipt.written
    for newer in presences:
        # Whoever came while the older one stood in line for the lock came too late.
        late = written - 2.0 * books.world.setup.write_timeout - SLACK
        waited = newer.receipt is not None and newer.answered is not None and newer.answered > written + SLACK
        in_time = call.asked < newer.asked < late and newer.caller != call.caller
        if waited and in_time and not _stood_behind(books, newer):
            yield f"presence {call.tag} left at {written:.4f}, and {newer.tag} waited since {newer.asked:.4f}"


def _stood_behind(books: Books, call: Call) -> bool:
    """Whether a command may have waited for an earlier one of its caller, or for room in the queue."""
    return books.world.setup.queue_capacity < ROOMY or any(
        other.caller == call.caller and other.answer == "queued" and other.tag < call.tag
        for other in books.records.calls.values()
    )


def interruptions(books: Books) -> Iterator[str]:
    """A frame is cut by the end of its connection, by its deadline, or by the end of the shard; by nobody else."""
    for write in books.records.writes:
        if write.interrupted is None or write.interrupted >= _last_chance(books):
            continue
        if write.interrupted - write.begun < books.world.setup.write_timeout - SLACK:
            yield f"op {write.opcode} on line {write.line} was cut at {write.interrupted:.4f}, and nothing had ended"


def _last_chance(books: Books) -> float:
    """Until when a write may go on after the end of the block. Cancellation and refusals do not wait."""
    in_good_order = books.world.setup.end not in ("the block is cancelled", "fatal close")
    return books.world.left_at + (LEAVING - SLACK if in_good_order else 0.0)


def handshakes(books: Books) -> Iterator[str]:
    """One handshake a connection, never two."""
    identifies: list[Write] = []
    for number, writes in books.writes.items():
        shaken = [write for write in writes if write.opcode in HANDSHAKES]
        if len(shaken) > 1:
            yield f"line {number}: {len(shaken)} handshakes"
        identifies += [write for write in shaken if write.opcode == IDENTIFY]
    identifies.sort(key=lambda write: write.begun)
    for earlier, later in pairwise(identifies):
        # The server counts arrivals: one that took long may arrive as late as it was written.
        until = earlier.begun if earlier.finished is None else earlier.finished
        if later.begun - until < IDENTIFY_SPACING:
            yield f"Identifies until {until:.4f} and at {later.begun:.4f}"


def addresses(books: Books) -> Iterator[str]:
    """A Resume goes to the URL that came with its session. While nobody greets, that takes turns with the gateway's."""
    life = failures = 0
    for dialled in books.records.dialled:
        if dialled.life != life:
            life, failures = dialled.life, 0
        if dialled.line is not None:
            number = dialled.line.number
            resumes = any(frame.opcode == RESUME for frame in books.transcripts[number].frames)
            at_resume_url = dialled.line.up.taken.startswith(b"GET /resume")
            if resumes and at_resume_url is not (failures // TURN % 2 == 0):
                yield f"line {number}: a Resume at the wrong URL, after {failures} failures to connect"
        failures = failures + 1 if dialled.hello is None else 0


def identities(books: Books) -> Iterator[str]:
    """A new session begins with the presence that was written last."""
    last: int | None = None
    life = 0
    for number in sorted(books.transcripts):
        if books.lines[number].life != life:
            life, last = books.lines[number].life, None
        for frame in books.transcripts[number].frames:
            if frame.opcode == IDENTIFY and frame.presence != last:
                yield f"line {number}: an Identify with presence {frame.presence}, and {last} was written last"
            if frame.opcode == PRESENCE:
                last = frame.tag


def pulses(books: Books) -> Iterator[str]:
    """A heartbeat carries the last sequence that was received."""
    for number, writes in books.writes.items():
        transcript = books.transcripts.get(number)
        carried = [] if transcript is None else [f.sequence for f in transcript.frames if f.opcode == HEARTBEAT]
        received = [write.sequences[0] for write in writes if write.opcode == HEARTBEAT]
        if carried != received[: len(carried)]:
            yield f"line {number}: heartbeats carry {carried}, and {received} were received"


def goodbyes(books: Books) -> Iterator[str]:
    """No close that ends a session which may be resumed."""
    last = max(books.transcripts, default=-1)
    for number, transcript in books.transcripts.items():
        # The answer to a close has the code of the close.
        echoes = {"close, suspect", "close without a code"}.intersection(books.lines[number].troubles)
        if transcript.close_code in (1000, 1001, 1005) and number != last and not echoes:
            yield f"line {number} was closed with {transcript.close_code}"


def tag_in(opcode: int, data: Any) -> int | None:
    """Return the number by which a command that arrived is known."""
    match opcode:
        case 3:
            return int(data["activities"][0]["name"])
        case 4:
            return int(data["channel_id"])
        case 8:
            return int(data["nonce"])
        case 31:
            return int(data["guild_ids"][0])
        case 43:
            return int(data["guild_id"])
        case _:
            return None
