"""The command line, `python -m fastrnn`: info, demo and bench."""

import argparse
import os
import sys

import fastrnn
from fastrnn import demos
from fastrnn.bench import run as bench


def _summary(demo):
    return (demo.__doc__ or "").partition("\n")[0]


def _parser():
    parser = argparse.ArgumentParser(prog="python -m fastrnn", description=fastrnn.__doc__)
    parser.add_argument("--version", action="version", version=f"fastrnn {fastrnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("info", help="version, backend, instruction sets, threads")
    listed = "\n".join(f"  {name:<12} {_summary(demo)}" for name, demo in demos.DEMOS.items())
    demo = commands.add_parser(
        "demo",
        help="train a network on data that comes with the package or with Python",
        usage="python -m fastrnn demo [NAME] [options]",
        description=f"Demos:\n{listed}\n\nWithout a NAME: {demos.DEFAULT}. "
        f"Its options: python -m fastrnn demo {demos.DEFAULT} --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = demo.add_subparsers(dest="name", required=True, metavar="NAME", help=argparse.SUPPRESS)
    for name, module in demos.DEMOS.items():
        about = _summary(module)
        aliases = [alias for alias, demo in demos.ALIASES.items() if demo == name]
        prog = f"python -m fastrnn demo {name}"
        module.add_arguments(names.add_parser(name, aliases=aliases, prog=prog, description=about))
    bench.add_arguments(
        commands.add_parser(
            "bench",
            help="time this package and the installed frameworks side by side",
            description=bench.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    return parser


def main(argv=None):
    """Run one command and return the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    # argparse has no default for a nested command: insert it if only options follow "demo".
    if argv[:1] == ["demo"] and argv[1:2] not in (["-h"], ["--help"]):
        if len(argv) == 1 or argv[1].startswith("-"):
            argv.insert(1, demos.DEFAULT)
    args = _parser().parse_args(argv)
    if args.command == "info":
        fastrnn.show_config()
        return 0
    if args.command == "bench":
        return bench.run(args)
    return demos.DEMOS[demos.ALIASES.get(args.name, args.name)].run(args)


if __name__ == "__main__":
    try:
        code = main()
        print(end="", flush=True)  # here, where a closed pipe is seen
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        code = 130  # 128 + SIGINT, as of other commands
    except BrokenPipeError:  # `| head` has read enough: what is not written yet goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141  # 128 + SIGPIPE
    sys.exit(code)
