/* The tempting design, as a model for spin: look at the state, wait for the limits, look again, write. No lock. The
 * connection object outlives its socket: after a reconnect the handshake runs on the same object.
 *
 * Between the second look and the last byte there is an await (the write itself: others are before us, or the socket
 * is full). That is all it takes. With -DONE_STEP the second look and the write are one step, and nothing else is
 * changed.
 */

#ifndef RECONNECTS
#define RECONNECTS 1
#endif

mtype:state = { AWAITING_HELLO, IDENTIFYING, RESUMING, READY };
mtype:payload = { IDENTIFY, RESUME, COMMAND };
mtype:inbound = { IN_HELLO, IN_READY, IN_RESUMED, IN_RECONNECT, IN_INVALID_SESSION };
mtype:server = { OPEN, HELLO_SENT, IDENTIFIED, RESUME_READ, AUTHENTICATED, INVALIDATED, LEFT };

mtype:state state = AWAITING_HELLO;
byte socket;                                    /* which one the object writes to now */
bool session;
byte verdicts = RECONNECTS;
chan up[RECONNECTS + 1] = [2] of { mtype:payload };
chan down[RECONNECTS + 1] = [4] of { mtype:inbound };

#define tell printf

proctype Sender() {
    do
    :: atomic { state == READY -> tell("|sender: first look: READY. Waits for the rate limiter\n") };
#ifdef ONE_STEP
        if
        :: atomic { state == READY && nfull(up[socket]) -> up[socket]!COMMAND }
        :: atomic { state != READY }
        fi
#else
        if
        :: atomic { state == READY -> tell("|sender: second look: still READY. The write begins\n") };
            atomic { nfull(up[socket]) ->       /* the await in the write */
                tell("|sender: the bytes leave, on socket %d\n", socket + 1);
                up[socket]!COMMAND }
        :: atomic { state != READY }
        fi
#endif
    od
}

proctype Library() {                            /* reads, and shakes hands */
    do
    :: atomic { down[socket]?IN_HELLO ->
        if
        :: session -> up[socket]!RESUME; state = RESUMING; tell("|library: Hello. Sends Resume on socket %d\n", socket + 1)
        :: else -> up[socket]!IDENTIFY; state = IDENTIFYING; tell("|library: Hello. Sends Identify on socket %d\n", socket + 1)
        fi }
    :: atomic { down[socket]?IN_READY -> state = READY; session = true; tell("|library: READY\n") }
    :: atomic { down[socket]?IN_RESUMED -> state = READY; tell("|library: RESUMED\n") }
    :: atomic { down[socket]?IN_RECONNECT ->
        tell("|library: reads op 7, and opens socket %d in place of socket %d\n", socket + 2, socket + 1);
        state = AWAITING_HELLO;
        socket++;
        run Server(socket) }
    :: atomic { down[socket]?IN_INVALID_SESSION ->
        tell("|library: reads op 9, and sends Identify on the same socket\n");
        state = IDENTIFYING; session = false; up[socket]!IDENTIFY }
    od
}

proctype Server(byte me) {
    mtype:server at = OPEN;
    mtype:payload op;
    do
    :: atomic { at == OPEN -> down[me]!IN_HELLO; at = HELLO_SENT }
    :: atomic { at == IDENTIFIED -> down[me]!IN_READY; at = AUTHENTICATED }
    :: atomic { at == RESUME_READ -> down[me]!IN_RESUMED; at = AUTHENTICATED }
    :: atomic { at == AUTHENTICATED && verdicts > 0 -> verdicts--;
#ifdef SAME_SOCKET
        down[me]!IN_INVALID_SESSION; at = INVALIDATED; tell("|server: op 9, the session is invalid\n")
#else
        down[me]!IN_RECONNECT; at = LEFT; tell("|server: op 7, reconnect\n")
#endif
        }
    :: atomic { up[me]?op ->
        if
        :: op == IDENTIFY -> at = IDENTIFIED
        :: op == RESUME -> at = RESUME_READ
        :: op == COMMAND && (at == AUTHENTICATED || at == LEFT)
        :: op == COMMAND && at == INVALIDATED   /* it crossed the op 9: no client can prevent that */
        :: op == COMMAND && at != AUTHENTICATED && at != LEFT && at != INVALIDATED ->
            tell("|server: a command before READY or RESUMED, on socket %d: closed with 4003\n", me + 1);
            assert(false)
        fi }
    od
}

init {
    atomic { run Server(0); run Library(); run Sender() }
}
