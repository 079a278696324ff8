/* The send path of trioshard, as a model for spin. README.md says what each part stands for, and check.py runs it.
 *
 * A step (`atomic`) is what one task does between two awaits: in Trio nobody else runs meanwhile. Between steps
 * anything may happen in any order, and spin tries every order there is. What takes time (a slow reader, a limit, a
 * network) needs no clock here: it is a step that comes late.
 *
 * There is one set of variables for the connection. `Shard` renews all of it for each attempt, once every task of the
 * last one has ended, as the nursery of a connection does.
 *
 * The switches take away one rule each. check.py shows what comes of it.
 */

#ifndef FAULTS
#define FAULTS 2        /* op 7, op 9, close, drop, silence, or a slow write: this many, at any moment */
#endif
#ifndef COMMANDS
#define COMMANDS 2      /* one caller each; the last caller is impatient: cancelled at any moment, or not */
#endif
#ifndef CAPACITY
#define CAPACITY 1      /* of the command queue */
#endif
#ifndef WIRE
#define WIRE 1          /* payloads that fit on the wire before a write has to wait */
#endif

mtype:phase = { CONNECTING, AWAITING_HELLO, GREETED, IDENTIFYING, RESUMING, READY, CLOSING, CLOSED };
mtype:payload = { HEARTBEAT, IDENTIFY, RESUME, COMMAND };       /* COMMAND: any of USER_COMMANDS */
mtype:inbound = { IN_HELLO, IN_READY, IN_RESUMED, IN_RECONNECT, IN_INVALID_SESSION, IN_CLOSE_FRAME };
mtype:ending = { REFUSED, BEGUN, WRITTEN, BROKEN };
mtype:answer = { RECEIPT, WITHDRAWN, SHARD_CLOSED };

#define NOWHERE 0

/* phases.py, SEND: what is missing is illegal. */
inline SEND(now, kind, next) {
    if
    :: now == GREETED     && kind == HEARTBEAT -> next = GREETED
    :: now == IDENTIFYING && kind == HEARTBEAT -> next = IDENTIFYING
    :: now == RESUMING    && kind == HEARTBEAT -> next = RESUMING
    :: now == READY       && kind == HEARTBEAT -> next = READY
    :: now == GREETED     && kind == IDENTIFY  -> next = IDENTIFYING
    :: now == GREETED     && kind == RESUME    -> next = RESUMING
    :: now == READY       && kind == COMMAND   -> next = READY
    :: else -> next = NOWHERE
    fi
}

/* phases.py, RECEIVE: the rows that lead to another phase. What is missing is ignored. */
inline RECEIVE(now, kind, next) {
    if
    :: now == AWAITING_HELLO && kind == IN_HELLO           -> next = GREETED
    :: now == IDENTIFYING    && kind == IN_READY           -> next = READY
    :: now == RESUMING       && kind == IN_RESUMED         -> next = READY
    :: now == AWAITING_HELLO && kind == IN_RECONNECT       -> next = CLOSING
    :: now == GREETED        && kind == IN_RECONNECT       -> next = CLOSING
    :: now == IDENTIFYING    && kind == IN_RECONNECT       -> next = CLOSING
    :: now == RESUMING       && kind == IN_RECONNECT       -> next = CLOSING
    :: now == READY          && kind == IN_RECONNECT       -> next = CLOSING
    :: now == GREETED        && kind == IN_INVALID_SESSION -> next = CLOSING
    :: now == IDENTIFYING    && kind == IN_INVALID_SESSION -> next = CLOSING
    :: now == RESUMING       && kind == IN_INVALID_SESSION -> next = CLOSING
    :: now == READY          && kind == IN_INVALID_SESSION -> next = CLOSING
    :: else -> next = NOWHERE
    fi
}

/* --- a connection: all of this is new for each one --- */

mtype:phase phase = CONNECTING;                 /* Machine.phase */
bool resuming;                                  /* Machine.handshake */
chan line = [6] of { byte };                    /* Wire._lock: who holds it, and behind him who waits for it */
bool condemned;                                 /* Wire._condemned, the bar: the end was announced to us */
bool in_flight, interrupted;                    /* Wire._in_flight, and whether its scope was cancelled */
bool running, over;                             /* Connection._nursery: it is there; it was cancelled */
chan up = [WIRE] of { mtype:payload, byte };    /* the wire, both ways */
chan down = [4] of { mtype:inbound, bool };
bool lost, silent, deaf, gone;                  /* the server dropped us, is silent, reads no more; we left */
bool shook, cut;                                /* for the claims: a handshake left; a frame was cut short */

/* --- the shard, and its callers --- */

chan queue = [CAPACITY] of { byte };            /* CommandQueue._entries and _slots */
bool waiting[COMMANDS], writing[COMMANDS];      /* is_waiting(entry), entry.writing */
bool held[COMMANDS];                            /* entry.cancelled */
mtype:answer answer[COMMANDS];                  /* what `send` ended with */
byte out[COMMANDS];                             /* for the claims: how often a command left whole */
bool session, leaving, shard_closed;
byte faults = FAULTS;

#ifdef NOBODY_CANCELS
#define impatient(id) false
#else
#define impatient(id) (id == COMMANDS - 1)
#endif

/* --- the switches --- */

#ifdef NO_LOCK
#define stand_in_line  skip
#define my_turn        true
#define leave_line     skip
#define release        skip
#else
#define stand_in_line  line!_pid
#define my_turn        line?[eval(_pid)]
#define leave_line     line??eval(_pid)
#define release        line?eval(_pid)
#endif

#ifdef NO_BAR
#define barred false
#else
#define barred condemned
#endif

#ifdef NO_PHASE_CHECK
#define illegal(next) false
#else
#define illegal(next) (next == NOWHERE)
#endif

#ifdef LIMITS                                   /* a window with room for one command; without: see the top */
bool spent;
#define room_in_the_window !spent
#define spend spent = true
#else
#define room_in_the_window true
#define spend skip
#endif

#ifdef WATCH_BEATS
bool beat_due;
#define beat_is(due) beat_due = due
#else
#define beat_is(due) skip
#endif

#ifdef BEATS                                    /* how many on one connection; without: for ever */
#define beat_allowed (beats < BEATS)
#define count_beat   beats++
#else
#define beat_allowed true
#define count_beat   skip
#endif

#ifdef ONLY_CLAIM_1                             /* for a story about a command */
#define claim_2(truth) skip
#define claim_5(truth) skip
#else
#define claim_2(truth) assert(truth)
#define claim_5(truth) assert(truth)
#endif

#define tell printf                             /* a line of the story that a counterexample tells */

/* --- Wire --- */

inline condemn() {                              /* Wire._condemn */
    condemned = true;
#ifndef NO_INTERRUPT
    interrupted = in_flight
#endif
}

inline wrote(op, id, how) {                     /* the end of Wire.write, and the `finally` of Sender._write */
    result = how;
    in_flight = false;
#ifdef PHASE_AFTER_WRITE
    if
    :: how == WRITTEN && phase == GREETED && op != HEARTBEAT -> phase = next
    :: else
    fi;
#endif
    if
    :: op == COMMAND && how == WRITTEN -> spend; settle(id, RECEIPT)
    :: op == COMMAND && how != WRITTEN -> broke(id)
    :: else
    fi;
    release;
    if
    :: how == BROKEN -> condemn(); stand_in_line        /* nothing is awaited until Wire.close, in _write_failed */
    :: else
    fi
}

inline write(op, id) {                          /* Wire.write, from the line on. Sets `result`; uses `next`. */
    if
    :: atomic { my_turn && !over ->
        SEND(phase, op, next);
        if
        :: barred || illegal(next) || (op == COMMAND && !waiting[id]) ->
            result = REFUSED;
            release
        :: else ->
            result = BEGUN;
            in_flight = true;
            interrupted = false;
            if
            :: op == COMMAND ->
                tell("|command %d: has the lock, looks at the phase, begins to write\n", id);
                assert(phase == READY && !condemned);                   /* claim 1 */
                writing[id] = true                                      /* CommandQueue.write_begins */
            :: op == IDENTIFY || op == RESUME ->
                tell("|handshake: has the lock, begins to write\n");
                claim_2(phase == GREETED && !condemned && !shook);
#ifndef PHASE_AFTER_WRITE
                phase = next                                            /* Machine.goes_out */
#else
                skip
#endif
            :: op == HEARTBEAT ->
                tell("|heartbeat: has the lock, begins to write\n");
                claim_2(next != NOWHERE && !condemned)
            fi
        fi }
    :: atomic { over -> leave_line; result = REFUSED }
    fi;
    if
    :: result == BEGUN ->
        if                                      /* Transport.send, in the scope of Wire._send */
        :: atomic { nfull(up) ->
            /* Also when interrupted: the system may take the frame before Trio can say no (README, limit 2). */
            up!op, id;
            claim_5(!cut);
            if
            :: op == COMMAND ->
                tell("|command %d: its last byte has left\n", id);
                assert(phase == READY);                                 /* claim 1 */
#ifdef STRICT
                assert(!condemned);                                     /* limit 2 */
#endif
                out[id]++
            :: op == IDENTIFY || op == RESUME ->
                tell("|handshake: its last byte has left\n");
                claim_2(!shook);
                shook = true
            :: op == HEARTBEAT ->
                tell("|heartbeat: its last byte has left\n")
            fi };
            atomic { wrote(op, id, WRITTEN) }
        :: atomic { interrupted ->
            tell("|the write in flight is interrupted\n");
            cut = true; wrote(op, id, BROKEN) }
        :: atomic { lost ->
            tell("|the write in flight breaks\n");
            wrote(op, id, BROKEN) }
        :: atomic { over ->
            cut = true; wrote(op, id, BROKEN) }
        :: atomic { deaf && full(up) && !condemned ->                   /* write_timeout; see claim 4 */
            tell("|the write in flight takes too long\n");
            cut = true; wrote(op, id, BROKEN) }
#ifndef ONLY_OP_9
        :: atomic { faults > 0 ->                                       /* the same, with a slow wire */
            faults--;
            tell("|the write in flight takes too long\n");
            cut = true; wrote(op, id, BROKEN) }
#endif
#ifdef CANCEL_REACHES_SOCKET
        :: atomic { op == COMMAND && impatient(id) ->
            tell("|caller %d is cancelled, and its write with it\n", id);
            held[id] = true; cut = true; wrote(op, id, REFUSED) }
#endif
        fi
    :: else
    fi
}

/* Wire.close, after condemn() and stand_in_line. */

inline end() {                                  /* Connection._end: and the nursery is cancelled */
    if
    :: atomic { my_turn -> phase = CLOSING; release; over = true }
    :: atomic { over -> leave_line }
    fi
}

inline write_failed() {                         /* Connection._write_failed: the reader may find the reason first */
    if
    :: atomic { my_turn -> phase = CLOSING; release }; over = true
    :: atomic { over -> leave_line }
    fi
}

/* --- CommandQueue --- */

inline settle(id, what) {                       /* CommandQueue._settle and _withdraw */
    queue??eval(id);
    waiting[id] = false;
    writing[id] = false;
    answer[id] = what
}

inline broke(id) {                              /* CommandQueue.broke */
    if
    :: held[id] -> settle(id, WITHDRAWN)
    :: else ->
        writing[id] = false;                    /* the command stays in the queue */
#ifdef NO_RETRY
        queue??eval(id); waiting[id] = false
#endif
    fi
}

proctype Caller(byte id) {                      /* CommandQueue.send */
    if
    :: atomic { !shard_closed && nfull(queue) -> queue!id; waiting[id] = true }
    :: atomic { impatient(id) -> answer[id] = WITHDRAWN }
    :: atomic { shard_closed -> answer[id] = SHARD_CLOSED }
    fi;
    do
    :: atomic { answer[id] != 0 ->
        assert(out[id] == (answer[id] == RECEIPT -> 1 : 0));            /* claim 6 */
        break }
    :: atomic { impatient(id) && waiting[id] && !held[id] ->            /* cancelled: abort() */
        if
        :: writing[id] -> held[id] = true
        :: else -> settle(id, WITHDRAWN)
        fi }
    od
}

/* --- the tasks of a connection --- */

proctype Sender() {                             /* Sender.run */
    mtype:ending result;
    mtype:phase next;
    byte id;
end_nothing_to_send:
    do
#ifndef BUDGET_UNDER_LOCK
    :: atomic { nempty(queue) && room_in_the_window && !over ->         /* _wait_due */
        queue?<id>;
        tell("|command %d: allowed by the limits, stands in line for the lock\n", id);
        stand_in_line };
#else
    :: atomic { nempty(queue) && !over -> queue?<id>; stand_in_line };
        (my_turn && room_in_the_window) || over;
#endif
        write(COMMAND, id);
        if
        :: result == WRITTEN
        :: result == REFUSED && !waiting[id]            /* withdrawn while we stood in line */
        :: result == REFUSED && waiting[id] -> break    /* the connection admits no more */
        :: result == BROKEN -> write_failed(); break
        fi
    :: over -> break
    od
}

proctype Heartbeater() {                        /* Heartbeater.run; beats have slots of their own in the budget */
    mtype:ending result;
    mtype:phase next;
#ifdef BEATS
    byte beats;
#endif
end_until_the_next_beat:
    do
    :: atomic { beat_allowed && !over -> count_beat; beat_is(true); stand_in_line };
        write(HEARTBEAT, 0);
        beat_is(false);
        if
        :: result == WRITTEN
        :: result == REFUSED -> break
        :: result == BROKEN -> write_failed(); break
        fi
    :: atomic { silent && !over -> condemn(); stand_in_line };          /* a zombie */
        end();
        break
    :: over -> break
    od
}

proctype Handshake() {                          /* Connection._shake_hands */
    mtype:ending result;
    mtype:phase next;
    mtype:payload op;
    if
    :: atomic { !over -> op = (resuming -> RESUME : IDENTIFY); stand_in_line };
        write(op, 0);
        if
        :: result == BROKEN -> write_failed()
        :: else
        fi
    :: over
    fi
}

inline receive() {                              /* Wire.receive under the lock, and Connection._react */
    if
    :: atomic { my_turn ->
        RECEIVE(phase, kind, next);             /* Machine.receive */
        release;
        if
        :: next == NOWHERE ->
            assert(phase == CLOSING);                                   /* claim 7 */
            if
            :: kind == IN_INVALID_SESSION ->
                session = session && good;
                next = CLOSED;
                condemn(); stand_in_line
            :: else
            fi
        :: next == GREETED ->
            phase = next;
            run Heartbeater();
#ifdef SENDER_STARTS_EARLY
            run Sender();
#endif
            run Handshake()
        :: next == READY ->
            tell("|reader: reads READY or RESUMED, commands may go\n");
            phase = next;
            next = NOWHERE;
            session = true;
            if
#ifdef RESUMED_DOES_NOT_WAKE
            :: kind == IN_RESUMED
#endif
#ifdef SENDER_STARTS_EARLY
            :: true
#else
            :: else -> run Sender()
#endif
            fi
        :: next == CLOSING ->
            phase = next;
            next = CLOSED;
            session = session && good;
            condemn(); stand_in_line
        fi }
    :: atomic { over -> leave_line; next = NOWHERE }
    fi
}

proctype Reader() {                             /* Reader._read, Wire.receive, Connection._react */
    mtype:inbound kind;
    mtype:phase next;
    bool good;
end_nothing_to_read:
    do
    :: atomic { nempty(down) && !over ->
        down?kind, good;
        RECEIVE(phase, kind, next);             /* Machine.moves */
        if
        :: kind == IN_CLOSE_FRAME ->
            session = session && good;
            next = CLOSED;
            condemn(); stand_in_line
        :: kind == IN_INVALID_SESSION && phase == CLOSING ->             /* behind a broken write: it still counts */
            session = session && good;
            next = CLOSED;
            condemn(); stand_in_line
        :: kind != IN_CLOSE_FRAME && !(kind == IN_INVALID_SESSION && phase == CLOSING) && next == NOWHERE ->
            tell("|reader: ignores what does not belong into this phase\n");
            assert(phase == CLOSING)                                    /* claim 7 */
        :: kind != IN_CLOSE_FRAME && next != NOWHERE ->
            if
            :: next == CLOSING ->
                tell("|reader: reads op 7 or op 9: the end of this connection is announced\n");
                condemn()
            :: else
            fi;
            next = READY;
            stand_in_line
        fi };
        if
        :: next == READY -> receive()
        :: else
        fi;
        if
        :: next == CLOSED -> end(); break
        :: else
        fi
    :: atomic { (lost || silent) && !over -> condemn(); stand_in_line };        /* end of stream; watchdog */
        end();
        break
    :: over -> break
    od
}

/* --- the shard, its user, and time --- */

proctype Shard() {                              /* Shard.run */
    byte id, crew;
    crew = _nr_pr;                              /* the processes that do not belong to a connection */
    do
    :: atomic { leaving -> break }
    :: atomic { !leaving ->
        tell("|shard: a new connection, with a machine and a lock of its own\n");
        phase = AWAITING_HELLO;
        resuming = session;
        running = true;
        run Server();
        run Reader() };
end_connected:
        atomic { _nr_pr == crew + 1 && empty(line) -> phase = CLOSED; running = false; gone = true };
        atomic { _nr_pr == crew ->
            do
            :: up?_, _
            :: down?_, _
            :: empty(up) && empty(down) -> break
            od;
            condemned = false; interrupted = false; over = false;
            lost = false; silent = false; deaf = false; gone = false;
            shook = false; cut = false; resuming = false;
#ifdef LIMITS
            spent = false
#endif
        }
    od;
    atomic {                                    /* CommandQueue.close */
        shard_closed = true;
        do
        :: id < COMMANDS ->
            assert(!writing[id]);
            if
            :: waiting[id] -> settle(id, SHARD_CLOSED)
            :: else
            fi;
            id++
        :: else -> break
        od }
}

#ifdef LEAVES
proctype User() {                               /* Connection.leave, at any moment or not at all */
    if
    :: true -> goto for_ever
    :: atomic { running -> stand_in_line };
        if
        :: atomic { my_turn -> phase = CLOSING; release; over = true }
        :: atomic { over -> leave_line }
        fi
    :: true                                     /* in between, or cut short: the block was cancelled */
    fi;
    atomic { leaving = true; over = running };      /* run_shard: the nursery is cancelled */
for_ever:
    skip
}
#endif

#ifdef LIMITS
proctype Clock() {
end_of_time:
    do
    :: spent -> spent = false
#ifdef TIME_MAY_STOP
    :: break
#endif
    od
}
#endif

/* --- the server: protocol reference, section 3 --- */

mtype:server = { OPEN, HELLO_SENT, IDENTIFIED, RESUME_READ, AUTHENTICATED, INVALIDATED, RECONNECT_SENT, DEAF };

#ifdef CLAIM_WRITTEN                            /* or it could listen for ever, and never answer */
#define owes_an_answer (at == IDENTIFIED || at == RESUME_READ)
#else
#define owes_an_answer false
#endif
#ifdef ONLY_OP_9                                /* for the same story */
#define may_begin_with_a_fault (at != OPEN)
#else
#define may_begin_with_a_fault true
#endif
#define serving (at != INVALIDATED && at != RECONNECT_SENT && at != DEAF)

proctype Server() {
    mtype:server at = OPEN;
    mtype:payload op;
    byte id;
end_idle:
    do
    :: atomic { at == OPEN -> down!IN_HELLO, true; at = HELLO_SENT }
    :: atomic { at == IDENTIFIED -> down!IN_READY, true; at = AUTHENTICATED }
    :: atomic { at == RESUME_READ -> down!IN_RESUMED, true; at = AUTHENTICATED }
    :: atomic { at != DEAF && !owes_an_answer && nempty(up) -> up?op, id;
        if
        :: op == HEARTBEAT -> assert(at != OPEN)
        :: op == IDENTIFY || op == RESUME ->
            assert(at == HELLO_SENT || at == RECONNECT_SENT || at == INVALIDATED);      /* claim 2; else 4005 */
            if
            :: at == HELLO_SENT && op == IDENTIFY -> at = IDENTIFIED
            :: at == HELLO_SENT && op == RESUME -> at = RESUME_READ
            :: else
            fi
        :: op == COMMAND && (at == AUTHENTICATED || at == RECONNECT_SENT)
        :: op == COMMAND && at == INVALIDATED ->        /* it crossed our op 9: nobody's fault */
            tell("|server: command %d has crossed the op 9: 4003\n", id);
#ifdef NO_CROSSING
            assert(false);                                              /* limit 1 */
#endif
            down!IN_CLOSE_FRAME, false; lost = true; at = DEAF; deaf = true
        :: else ->
            tell("|server: command %d before READY or RESUMED: 4003\n", id);
            assert(false)                                               /* claim 3 */
        fi }
    :: atomic { serving && !gone && faults > 0 && may_begin_with_a_fault -> faults--;
        if
        :: at != OPEN -> down!IN_INVALID_SESSION, true; at = INVALIDATED; tell("|server: op 9, resumable\n")
        :: at != OPEN -> down!IN_INVALID_SESSION, false; at = INVALIDATED; tell("|server: op 9\n")
#ifndef ONLY_OP_9
        :: down!IN_RECONNECT, true; at = RECONNECT_SENT; tell("|server: op 7\n")
        :: down!IN_CLOSE_FRAME, true; lost = true; at = DEAF; deaf = true; tell("|server: closes\n")
        :: down!IN_CLOSE_FRAME, false; lost = true; at = DEAF; deaf = true; tell("|server: closes, and ends the session\n")
        :: lost = true; at = DEAF; deaf = true; tell("|the line breaks\n")
        :: silent = true; at = DEAF; deaf = true; tell("|server: goes silent\n")
#endif
        fi }
    :: atomic { at == INVALIDATED || at == RECONNECT_SENT -> at = DEAF; deaf = true; tell("|server: reads no more\n") }
    :: atomic { gone && (at == DEAF || empty(up)) -> break }
    od
}

/* --- the beginning --- */

init {
    atomic {
        run Caller(0);
#if COMMANDS > 1
        run Caller(1);
#endif
#if COMMANDS > 2
        run Caller(2);
#endif
#ifdef LEAVES
        run User();
#endif
#ifdef LIMITS
        run Clock();
#endif
        run Shard()
    }
}

/* --- claims about what comes in the end --- */

#ifdef CLAIM_WRITTEN
ltl written { <> (answer[0] == RECEIPT && (COMMANDS == 1 || answer[COMMANDS - 1] != 0)) }
#endif
#ifdef CLAIM_BEAT
ltl beats { [] (beat_due -> <> !beat_due) }
#endif
