"""Python in processes of its own, which have torch loaded already: importing it is most of what a start takes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 900
# Runs the words of each line of its input, `-c CODE`, `-m MODULE` or a file, and arguments, in a copy of itself.
SERVER = """
import gc, json, os, runpy, signal, sys, types
import torch, torchvision

assert not {"huggingface_hub", "timm", "timm_lp.models", "hub_export"} & sys.modules.keys(), "they read the environment"
gc.freeze()  # or a collection in each copy would copy the memory that they share
for line in sys.stdin:
    words, folder, environment, streams, timeout_s = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.alarm(timeout_s)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in enumerate(streams, 1):
            os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        kind, *sys.argv = words
        if kind == "-m":
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            code, sys.argv[0] = sys.argv[0], "-c"
            exec(code, vars(main))
        else:
            file = os.path.abspath(kind)
            sys.argv, sys.path[0] = words, os.path.dirname(file)
            runpy.run_path(file, run_name="__main__")
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class WarmPython:
    """Starts Python as `subprocess.run([sys.executable, ...])` does, with what it prints as text."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    def __call__(
        self, *words: str | Path, cwd: Path = ROOT, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run Python and return how it ended.

        Args:
            *words: `-c` and code, `-m` and a module, or a file, and their arguments.
            cwd: The folder that it starts in.
            check: Whether it must end well.
            **variables: Added to this process's environment. `torch` itself does not see them.
        """
        arguments = [*map(str, words)]
        with TemporaryDirectory() as folder:
            streams = [f"{folder}/{name}" for name in ("output", "errors")]
            request = (arguments, str(cwd), {**os.environ, **variables}, streams, TIMEOUT_S)
            self._server.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
            self._server.stdin.flush()  # type: ignore[union-attr]
            code = int(self._server.stdout.readline())  # type: ignore[union-attr]
            output, errors = (Path(stream).read_text() for stream in streams)
        assert code == 0 or not check, errors
        return subprocess.CompletedProcess(arguments, code, output, errors)


@contextmanager
def warm_python() -> Iterator[WarmPython]:
    """Start the process whose copies are used."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment, pipe = {**os.environ, "PYTHONPATH": path}, subprocess.PIPE
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as server:
        yield WarmPython(server)
