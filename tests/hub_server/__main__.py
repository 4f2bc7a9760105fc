"""`python -m tests.hub_server`: a Hub on loopback to try things with; `python -m tests.hub_server COMMAND` runs one."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Event

from .server import HubServer, environment, serve

TOKEN = "hf_alice"


def main() -> int:
    """Run a Hub until the command ends, or until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub_server", description=__doc__)
    parser.add_argument("--root", type=Path, help="first state: OWNER/NAME/ models, datasets/OWNER/NAME/ data sets")
    parser.add_argument("--port", type=int, default=0, help="any that is free, if not given")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="run with the Hub's variables; the Hub ends with it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, serve(options.root, port=options.port) as server:
        variables = environment(server, Path(home), TOKEN)
        if options.command:
            return subprocess.run(options.command, env={**os.environ, **variables}, check=False).returncode
        return _wait(server, variables)


def _wait(server: HubServer, variables: dict[str, str]) -> int:
    exports = "\n".join(f"export {name}={value}" for name, value in variables.items())
    sys.stdout.write(f"# A Hub at {server.url}, empty again once it is stopped with Ctrl-C. Use it with:\n{exports}\n")
    sys.stdout.flush()
    try:
        Event().wait()
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
