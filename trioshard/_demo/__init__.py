"""What the command line runs: the demo, and the built-in gateway on a port.

::

    ledger     the books of numbered events: who was owed what, and what came       (pure)
    summary    what is said at the end, for people and as JSON                      (pure)
    display    what is shown meanwhile                                              (pure, but for `Screen`)
    weather    what the gateway does to the bot, and the events it publishes
    bot        the example bot: senders that never stop, and a listener
    demo       the run that joins them
    gateway    ``trioshard gateway``
"""
