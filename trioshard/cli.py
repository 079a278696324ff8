"""The command line: ``trioshard demo``, ``simulate``, ``soak`` and ``gateway``, and ``trioshard --version``.

Exit status: 0 when all went well; 1 when the demo, the simulation or the soak found something that must not happen; 2
when the command could not be begun (arguments, a port in use, a missing package); 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from trioshard._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

INTERRUPTED: Final = 130
"""The exit status that shells expect after Ctrl-C."""

_DEMO_HELP = """\
Runs a bot against the built-in gateway, on this machine and without a token, in heavy weather: several
times a second the gateway ends the connection, each time in another way. Meanwhile senders send
commands without a pause, and take some of them back; the gateway publishes numbered events without a pause.
At the end the books of both sides are compared.
"""

_DEMO_WORDS = """\
what the numbers mean:
  connections, resumes, identifies, refused and crossing are counted by the gateway, not by the bot.
  accepted     commands that the shard took over
  written      commands that it wrote to a connection, whole
  withdrawn    commands taken back by their senders before a byte of them was written
  superseded   presences replaced by a newer one that was written in their place
  pending      commands that still waited at the end
  refused      payloads that the gateway does not allow at that moment, by kind
  crossing     payloads that met an Invalid Session or a close of the gateway half-way; no client can prevent it
  sent         numbered events published to a session that was live or could be resumed
  received     of those, the ones that arrived, each counted once
  lost         of those, the ones that did not arrive, but for those discarded by the gateway
  repeated     numbered events that arrived once more
  discarded_by_gateway   events not written yet when the gateway itself ended their session (op 9 false)
  never_known  events of sessions of which the bot never heard, as the line broke under READY (0 in the demo)
  back after, ready_ms   from the end of a connection to the next READY or RESUMED. A new session takes
               seconds: Discord wants a wait of 1 to 5 s before it, and 5 s between two of them

exit status: 0, or 1 if anything was refused, lost, repeated or out of order; 130 after Ctrl-C.
The seed draws the weather and the bot's doings. The clock is real, so no two runs are quite the same.
"""

_SOAK_HELP = """\
Runs two bots at the same time over real TCP and TLS, each against a built-in gateway of its own, through a proxy that
makes trouble on the level of the system: resets, closes in the middle of a frame, half-closes, lines that stand
still until the buffers are full, byte-wise delivery, refused connections. The proxies are killed, too. At the end the
books of both sides are compared, and what the process holds (memory, objects, tasks, descriptors) must not have
grown with the number of connections. TLS needs trustme: pip install "trioshard[soak]".
"""

_SOAK_WORDS = """\
exit status: 0, or 1 if anything was refused, lost, repeated, out of order, growing or left behind; 130 after Ctrl-C.
The seed draws the trouble and the bots' doings. The clock is real, so no two runs are quite the same.
"""

_SIMULATE_HELP = """\
Plays histories of the real shard and the real WebSocket library against the built-in gateway, in memory and in virtual
time. Each seed draws one: the order in which tasks run, the network, what goes wrong and when, and what the
shard's users do. Each has at least 60 seconds, 20 reconnects and 200 commands. The books of both ends, and of the wire
between them, are compared. A seed that fails tells its story, and tells the same one again whenever it is played.
"""

_SIMULATE_WORDS = """\
The table at the end says how often each kind of trouble met each phase of the shard's connection.
exit status: 0, or 1 if a seed failed (with --all-met: or if anything in the table was never met); 130 after Ctrl-C.
"""

_GATEWAY_HELP = """\
Serves the built-in gateway for any client in any language. It speaks version 10 over WebSocket and the few HTTP
routes that bots need to start, behaves as Discord does, and tells what it would not have put up with.
"""


class _Parser(argparse.ArgumentParser):
    """Errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (try --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; its exit status."""
    parser = _build_parser()
    arguments = parser.parse_args(argv)
    if arguments.run is None:
        parser.print_help()
        return 2
    # What the shard logs about its reconnects would tear the display apart.
    logging.getLogger("trioshard").addHandler(logging.NullHandler())
    logging.getLogger("trio-websocket").addHandler(logging.NullHandler())
    run: Callable[[argparse.Namespace], int] = arguments.run
    status = INTERRUPTED
    try:
        status = run(arguments)
    except* BrokenPipeError:
        # Whoever read the output has left. Nothing more can be said, not even while the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except* KeyboardInterrupt:
        pass  # Before anybody was there to obey it.
    return status


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="trioshard", description="The Discord gateway for Trio.")
    parser.add_argument("--version", action="version", version=f"trioshard {__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="watch a bot survive reconnect after reconnect",
        description=_DEMO_HELP,
        epilog=_DEMO_WORDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _describe_demo(demo)
    simulate = commands.add_parser(
        "simulate",
        help="play thousands of seeded histories, and check each",
        description=_SIMULATE_HELP,
        epilog=_SIMULATE_WORDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _describe_simulate(simulate)
    soak = commands.add_parser(
        "soak",
        help="make real trouble for minutes or hours, and look for leaks",
        description=_SOAK_HELP,
        epilog=_SOAK_WORDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _describe_soak(soak)
    gateway = commands.add_parser("gateway", help="serve the built-in gateway", description=_GATEWAY_HELP)
    _describe_gateway(gateway)
    return parser


def _describe_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--seconds", type=_positive, default=20.0, metavar="S", help="how long (default: 20)")
    demo.add_argument("--seed", type=int, default=None, metavar="N", help="what to draw from (default: a new one)")
    demo.add_argument("--senders", type=_count, default=8, metavar="N", help="tasks that send (default: 8)")
    demo.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
    demo.set_defaults(run=_run_demo)


def _describe_simulate(simulate: argparse.ArgumentParser) -> None:
    add = simulate.add_argument
    add("--seeds", type=_count, default=100, metavar="N", help="how many (default: 100)")
    add("--from", dest="first", type=_not_negative_count, default=0, metavar="S", help="the first one (default: 0)")
    add("--jobs", type=_count, default=os.cpu_count() or 1, metavar="J", help="processes (default: one a processor)")
    add("--transport", choices=("trio-websocket", "websockets"), default=None, help="default: each seed draws one")
    add("--story", action="store_true", help="tell the story of each seed, whether it fails or not")
    add("--all-met", action="store_true", help="fail also if any kind of trouble has not met each of its phases")
    add("--small-worlds", action="store_true", help="instead: play every order of tasks in the smallest scenarios")
    simulate.set_defaults(run=_run_simulate)


def _describe_soak(soak: argparse.ArgumentParser) -> None:
    soak.add_argument("--minutes", type=_positive, default=1.0, metavar="M", help="how long (default: 1)")
    soak.add_argument("--seed", type=int, default=None, metavar="N", help="what to draw from (default: a new one)")
    soak.add_argument("--senders", type=_count, default=8, metavar="N", help="tasks of each bot that send (default: 8)")
    soak.add_argument("--json", action="store_true", help="print one JSON object, and the progress on stderr")
    soak.add_argument("--no-tls", action="store_true", help="both bots over plain TCP")
    soak.set_defaults(run=_run_soak)


def _describe_gateway(gateway: argparse.ArgumentParser) -> None:
    add = gateway.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=_port, default=0, metavar="N", help="TCP port (default: any free one)")
    add("--token", default=None, help="the right token (default: any that is not empty)")
    add("--heartbeat-interval", type=_positive, default=41.25, metavar="S", help="seconds (default: 41.25)")
    add("--guilds", type=_count, default=1, metavar="N", help="guilds that the bot is in (default: 1)")
    add("--churn", nargs="?", type=int, const=0, default=None, metavar="SEED", help="end each connection soon")
    add("--messages-per-second", type=_not_negative, default=0.0, metavar="X", help="messages to publish (default: 0)")
    add("--tls-cert", default=None, metavar="FILE", help="serve TLS with this certificate (PEM)")
    add("--tls-key", default=None, metavar="FILE", help="its key (PEM), if it is not in the same file")
    gateway.set_defaults(run=_run_gateway)


def _run_demo(arguments: argparse.Namespace) -> int:
    # The imports are here because they take longer than --version should.
    from functools import partial

    import trio

    from trioshard._demo.demo import Options, run_demo, show_lines, show_screen
    from trioshard._demo.summary import render_summary

    seed: int = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    options = Options(seconds=arguments.seconds, seed=seed, senders=arguments.senders)
    # With --json the display, if anybody sees it, goes to the other stream.
    stream = sys.stderr if arguments.json else sys.stdout
    if stream.isatty():
        show = partial(show_screen, stream)
    elif arguments.json:
        show = None
    else:
        print(f"trioshard demo: {options.seconds:g} s, seed {seed}, {options.senders} senders", flush=True)
        show = partial(show_lines, stream)
    summary = trio.run(run_demo, options, show)
    print(summary.to_json() if arguments.json else f"\n{render_summary(summary)}", flush=True)
    return summary.exit_status


def _run_simulate(arguments: argparse.Namespace) -> int:
    from trioshard._simulation.campaign import Order, run_campaign
    from trioshard._simulation.history import run_seed
    from trioshard._simulation.report import Display, exit_status, render, render_story
    from trioshard._simulation.setup import available_transports

    if arguments.small_worlds:
        from trioshard._simulation.small_worlds import main as play_small_worlds

        return play_small_worlds()
    if arguments.transport not in (None, *available_transports()):
        print('trioshard simulate: that transport needs: pip install "trioshard[speed]"', file=sys.stderr)
        return 2
    order = Order(arguments.first, arguments.seeds, arguments.jobs, arguments.transport)
    if arguments.story:
        results = [run_seed(seed, transport=order.transport, story=True) for seed in order.seeds]
        for result in results:
            print("\n".join(render_story(result)))
        return int(any(result.complaints for result in results))
    print(f"trioshard simulate: seeds {order.seeds.start} to {order.seeds.stop - 1}, {order.jobs} jobs", flush=True)
    display = Display(sys.stderr)
    tally = run_campaign(order, display.show)
    display.close()
    print("\n".join(render(tally)), flush=True)
    return INTERRUPTED if tally.interrupted else exit_status(tally, all_met=arguments.all_met)


def _run_soak(arguments: argparse.Namespace) -> int:
    from functools import partial

    import trio

    from trioshard._soak.soak import Options, run_soak, show_lines, show_screen
    from trioshard._soak.summary import render_summary

    seed: int = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    options = Options(seconds=arguments.minutes * 60, seed=seed, senders=arguments.senders, tls=not arguments.no_tls)
    # With --json the progress goes to the other stream.
    stream = sys.stderr if arguments.json else sys.stdout
    show = partial(show_screen if stream.isatty() else show_lines, stream)
    if not stream.isatty():
        print(
            f"trioshard soak: {arguments.minutes:g} min, seed {seed}, {options.senders} senders",
            file=stream,
            flush=True,
        )
    try:
        summary = trio.run(run_soak, options, show)
    except ModuleNotFoundError as exc:
        if exc.name != "trustme":
            raise
        print('trioshard soak: TLS needs trustme: pip install "trioshard[soak]"; or run with --no-tls', file=sys.stderr)
        return 2
    print(summary.to_json() if arguments.json else f"\n{render_summary(summary)}", flush=True)
    return summary.exit_status


def _run_gateway(arguments: argparse.Namespace) -> int:
    import trio

    from trioshard._demo.gateway import Options, make_ssl_context, serve

    try:
        context = make_ssl_context(arguments.tls_cert, arguments.tls_key)
        options = Options(
            host=arguments.host,
            port=arguments.port,
            token=arguments.token,
            heartbeat_interval=arguments.heartbeat_interval,
            guilds=arguments.guilds,
            churn=arguments.churn,
            messages_per_second=arguments.messages_per_second,
            ssl_context=context,
        )
        trio.run(serve, options, sys.stdout)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as exc:
        where = f"{arguments.host}:{arguments.port}"
        print(f"trioshard gateway: {_reason(exc, where)}", file=sys.stderr)
        return 2
    return 0


def _reason(error: OSError | ValueError, where: str) -> str:
    """One line for what went wrong. An error of the system that names no file concerns the address."""
    if isinstance(error, OSError):
        words = error.strerror or str(error)
        return f"{error.filename}: {words}" if error.filename is not None else f"cannot listen on {where}: {words}"
    return str(error).splitlines()[0]


def _number(text: str) -> float:
    number = float(text)
    if not abs(number) < float("inf"):
        raise ValueError
    return number


def _positive(text: str) -> float:
    if (number := _number(text)) <= 0:
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return number


def _not_negative(text: str) -> float:
    if (number := _number(text)) < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, not {text}")
    return number


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


def _not_negative_count(text: str) -> int:
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, not {text}")
    return number


def _port(text: str) -> int:
    if not 0 <= (number := int(text)) <= 65_535:
        raise argparse.ArgumentTypeError(f"must be 0 to 65535, not {text}")
    return number
