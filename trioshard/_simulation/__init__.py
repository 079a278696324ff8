"""The simulation: thousands of seeded histories of the real shard, judged from both ends and from the wire between.

::

    scheduler      Trio with an order of tasks that is drawn, or chosen
    network        lines in virtual time that can be slow, narrow, cut or stuck
    setup, plan, troubles, weather   what is drawn: for a history, for a connection, and what goes wrong when
    users          who sends, listens, cancels and publishes
    records, observers, wiretap      what is noted: by everybody, inside the shard, and on the wire
    world          one history, while it is played
    books, check_sending, check_events, check_timing, invariants   its judgement
    history        one seed from beginning to end
    campaign, coverage, report       many seeds, what they met, and what is shown of it

    exhaustive, fingerprint, small_stage, small_worlds   instead of chance, every order of tasks, in tiny scenarios
"""
