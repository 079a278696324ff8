"""``trioshard soak``: real sockets, real trouble, for minutes or hours; and nothing may be lost, or left behind.

Two bots run at the same time, each against a built-in gateway of its own, one over plain TCP and one over TLS. Between
a bot and its gateway stands a proxy, in a process of its own: it makes trouble on the level of the system.

::

    trouble    what the line does to a connection, drawn from a seed            (pure)
    line       one connection through the proxy, and how each trouble is made
    proxy      the process between bot and gateway: ``python -m trioshard._soak.proxy``
    child      that process as the run sees it: started, killed, started again
    tags       the books of tagged commands: none arrives twice, or withdrawn   (pure)
    fairness   which late arrivals are the line's doing                         (pure)
    usage      what the process holds: memory, objects, tasks, descriptors
    samples    the series of that, over the run
    flatness   the rule by which a leak is told from noise                      (pure)
    station    one bot with its proxy and gateway, and their books
    soak       the run that joins two of them
    summary    what is said at the end, for people and as JSON                  (pure)
    display    what is shown meanwhile                                          (pure)
    tls        a certificate made for the run
"""
