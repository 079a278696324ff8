"""The books of the demo, with made-up entries."""

from __future__ import annotations

from trioshard._demo.ledger import Balance, Ledger, SessionRecord

LIVE = SessionRecord(None, 100)


def books(*, published: range, received: list[int], session: str = "a", heard: int = 100) -> Ledger:
    ledger = Ledger()
    for number in published:
        ledger.publish(number, [session])
    for number in received:
        ledger.receive(session, number)
    ledger.hear(session, heard)
    return ledger


def test_everything_arrived():
    ledger = books(published=range(1, 4), received=[1, 2, 3])
    assert ledger.balance({"a": LIVE}, current="a") == Balance(sent=3, received=3)
    assert ledger.balance({"a": LIVE}, current="a").faults == 0


def test_the_books_need_no_records_when_nothing_is_owed():
    assert Ledger().balance({}) == Balance()
    assert books(published=range(1, 3), received=[1, 2]).balance({}) == Balance(sent=2, received=2)


def test_a_hole_is_a_loss():
    balance = books(published=range(1, 5), received=[1, 2, 4]).balance({"a": LIVE}, current="a")
    assert (balance.sent, balance.received, balance.lost, balance.faults) == (4, 3, 1, 1)


def test_what_is_still_missing_after_all_has_settled_is_lost():
    ledger = books(published=range(1, 5), received=[1, 2])
    assert ledger.balance({"a": LIVE}, current="a").lost == 2


def test_what_nobody_waited_for_is_under_way_but_a_hole_is_a_hole():
    balance = books(published=range(1, 6), received=[1, 3]).balance({"a": LIVE}, current="a", settled=False)
    assert (balance.lost, balance.under_way) == (1, 2)


def test_what_came_twice_is_repeated():
    balance = books(published=range(1, 3), received=[1, 2, 1, 2]).balance({"a": LIVE}, current="a")
    assert (balance.received, balance.repeated, balance.lost) == (2, 2, 0)


def test_what_came_after_a_later_one_is_out_of_order():
    ledger = books(published=range(1, 4), received=[1, 3, 2])
    balance = ledger.balance({"a": LIVE}, current="a")
    assert (balance.received, balance.out_of_order, balance.lost) == (3, 1, 0)
    assert ledger.blemishes == 1


def test_what_was_never_published_to_a_session_is_unexpected_there():
    ledger = books(published=range(5, 7), received=[5, 6, 4, 7])
    ledger.receive("b", 5)
    assert ledger.balance({"a": LIVE}, current="a").unexpected == 3


def test_a_session_may_be_heard_of_before_anything_is_published_to_it():
    ledger = Ledger()
    ledger.hear("a", 1)
    for number in (7, 8):
        ledger.publish(number, ["a"])
    ledger.receive("a", 7)
    ledger.receive("a", 3)
    balance = ledger.balance({"a": LIVE}, current="a")
    assert (balance.received, balance.lost, balance.unexpected) == (1, 1, 1)


def test_what_the_gateway_had_not_written_when_it_ended_the_session_is_discarded():
    ledger = books(published=range(1, 6), received=[1, 2, 3], heard=9)
    balance = ledger.balance({"a": SessionRecord("invalidated", 9)}, current="b")
    assert (balance.discarded_by_gateway, balance.lost) == (2, 0)
    assert balance.sent == balance.received + balance.discarded_by_gateway


def test_what_it_had_written_by_then_is_owed_all_the_same():
    ledger = books(published=range(1, 6), received=[1, 2, 3], heard=9)
    balance = ledger.balance({"a": SessionRecord("invalidated", 10)}, current="b")
    assert (balance.discarded_by_gateway, balance.lost) == (1, 1)
    assert ledger.balance({"a": SessionRecord("invalidated", 100)}).lost == 2


def test_a_hole_in_a_session_that_the_gateway_ended_is_a_loss():
    ledger = books(published=range(1, 6), received=[1, 3, 4], heard=9)
    balance = ledger.balance({"a": SessionRecord("invalidated", 9)})
    assert (balance.discarded_by_gateway, balance.lost) == (1, 1)


def test_only_the_gateways_own_verdicts_excuse_anything():
    verdicts = {
        "invalidated": 2,
        "closed with 4009": 2,
        "too old to replay": 2,
        "READY was never sent": 2,
        "the client closed with 1000": 0,
        "timed out": 0,
        "token reset": 0,
        None: 0,
    }
    for verdict, discarded in verdicts.items():
        ledger = books(published=range(1, 4), received=[1], heard=5)
        balance = ledger.balance({"a": SessionRecord(verdict, 5)}, current="b")
        assert (balance.discarded_by_gateway, balance.lost) == (discarded, 2 - discarded), verdict


def test_a_session_that_the_client_gave_up_is_lost_even_if_nobody_waited():
    ledger = books(published=range(1, 4), received=[1])
    assert ledger.balance({"a": LIVE}, current="b", settled=False).lost == 2


def test_an_event_is_owed_to_every_session_that_was_given_it():
    ledger = Ledger()
    ledger.publish(1, ["a", "b"])
    ledger.publish(2, [])
    ledger.receive("b", 1)
    balance = ledger.balance({"a": LIVE, "b": LIVE}, current="b")
    assert (balance.sent, balance.received, balance.lost, balance.without_session) == (2, 1, 1, 1)


def test_a_line_that_breaks_may_have_lost_what_was_written_last_before_the_gateway_ended_the_session():
    ledger = books(published=range(1, 6), received=[1, 3], heard=9)
    balance = ledger.balance({"a": SessionRecord("invalidated", 100)}, lossy_line=True)
    assert (balance.discarded_by_gateway, balance.lost) == (2, 1)
    assert ledger.balance({"a": SessionRecord("timed out", 100)}, lossy_line=True).lost == 3


def test_a_session_of_which_the_client_never_heard_owes_nothing():
    ledger = books(published=range(1, 4), received=[], heard=0)
    balance = ledger.balance({"a": SessionRecord(None, 5, known=False)}, current="b")
    assert (balance.never_known, balance.lost) == (3, 0)
    assert balance.sent == balance.received + balance.lost + balance.never_known


def test_a_session_that_the_client_has_heard_of_or_used_is_known():
    for heard, known in ((1, False), (0, True)):
        ledger = books(published=range(1, 4), received=[], heard=heard)
        balance = ledger.balance({"a": SessionRecord(None, 5, known=known)}, current="b")
        assert (balance.never_known, balance.lost) == (0, 3)
