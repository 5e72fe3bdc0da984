#!/usr/bin/env python3
"""Runs the shell blocks of the documentation, so that what a reader is told to type works.

    docs/check.py [--pellucid FILE] [--list] [PAGE …]

Fenced blocks that begin with ```sh are run with bash, those that begin with ```console line by line where a line begins with
"$ " (the rest is output, which is not compared). A block is left alone where its first line goes on with "no-run" and a reason:

    ```sh,no-run needs PyTorch

The blocks of a page run in order, in one temporary copy of the repository, with the command (and pellucid-zoo, if it lies
beside it) on the path. The pictures in zoo/data are linked into the copy: they must be there (`make check-book` composes them).
The first block that fails ends the check with its page, line and output. Standard library only.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What a reader's copy does not have, or what is large and only read.
LEFT_OUT = {".git", "target", "runs", "node_modules", ".runtime", ".tools", "artifacts", "found", "__pycache__"}
# Seconds after which a block is stuck.
LIMIT = 600
FENCE = re.compile(r"^(?P<fence>```+)\s*(?P<info>.*)$")


class Block:
    """A fenced block: where it begins, its lines, and why it is not run, if it is not."""

    def __init__(self, page, line, info):
        self.page, self.line, self.lines = page, line, []
        words = re.split(r"[,\s]+", info)
        self.language = words[0]
        self.reason = info.split("no-run", 1)[1].strip(" :") or None if "no-run" in words else ""

    @property
    def is_shell(self):
        return self.language in ("sh", "console")

    def script(self):
        if self.language == "console":
            return "\n".join(line[2:] for line in self.lines if line.startswith("$ "))
        return "\n".join(self.lines)


def blocks(text, page):
    """The fenced blocks of a page's text, in order."""
    found, open_with = [], None
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if open_with is None and fence:
            open_with = fence["fence"]
            found.append(Block(page, number, fence["info"].strip()))
        elif open_with is not None and line.rstrip() == open_with:
            open_with = None
        elif open_with is not None:
            found[-1].lines.append(line)
    if open_with is not None:
        sys.exit(f"{found[-1].page}:{found[-1].line}: the block does not end")
    return found


def pages():
    """The book's pages in its own order, and README.md before them."""
    docs = ROOT / "docs"
    named = re.findall(r"\]\(([^)]+\.md)\)", (docs / "SUMMARY.md").read_text(encoding="utf-8"))
    missing = [name for name in named if not (docs / name).is_file()]
    if missing:
        sys.exit(f"docs/SUMMARY.md: there is no {', '.join(missing)}")
    unnamed = {p for p in docs.rglob("*.md") if p.name != "SUMMARY.md"} - {docs / name for name in named}
    if unnamed:
        sys.exit(f"docs/SUMMARY.md does not name {', '.join(sorted(str(p.relative_to(docs)) for p in unnamed))}")
    return [ROOT / "README.md", *(docs / name for name in named)]


def copy_of_repository(folder):
    """What a reader has after cloning, and the pictures that are composed."""
    data = ROOT / "zoo" / "data"

    def left_out(where, names):
        return [n for n in names if n in LEFT_OUT or pathlib.Path(where, n) == data]

    shutil.copytree(ROOT, folder, symlinks=True, ignore=left_out)
    if data.is_dir():
        (folder / "zoo" / "data").symlink_to(data)


def environment(command):
    """The command first on the path, and ONNX Runtime where `make setup` puts it, unless a variable says otherwise."""
    env = dict(os.environ)
    env["PATH"] = f"{command.parent}{os.pathsep}{env.get('PATH', '')}"
    env.setdefault("ORT_DYLIB_PATH", str(ROOT / ".runtime"))
    return env


def run(block, folder, env):
    """None, or what went wrong with the end of what was said."""
    shell = ["bash", "-euo", "pipefail", "-c", block.script()]
    with subprocess.Popen(
        shell, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=LIMIT)
            wrong = f"ended with {process.returncode}" if process.returncode else None
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            wrong = f"took more than {LIMIT} s"
    return wrong and f"{wrong}\n" + "\n".join(said.splitlines()[-20:])


def main():
    parser = argparse.ArgumentParser(description="Runs the shell blocks of the documentation.")
    parser.add_argument("--pellucid", type=pathlib.Path, default=ROOT / "target" / "debug" / "pellucid", help="the command")
    parser.add_argument("--list", action="store_true", help="say what would run and what would not, and run nothing")
    parser.add_argument("page", nargs="*", type=pathlib.Path, help="pages; all of the book by default")
    args = parser.parse_args()
    command = args.pellucid.resolve()
    if not args.list and not os.access(command, os.X_OK):
        sys.exit(f"check.py: there is no command at {command}; build it, or name it with --pellucid")
    ran = left = 0
    for page in [p.resolve() for p in args.page] or pages():
        name = page.relative_to(ROOT)
        shell = [b for b in blocks(page.read_text(encoding="utf-8"), name) if b.is_shell]
        without = [b for b in shell if b.reason is None]
        if without:
            sys.exit(f"{name}:{without[0].line}: no-run, without a reason")
        wanted = [b for b in shell if b.reason == ""]
        left += len(shell) - len(wanted)
        for block in shell if args.list else []:
            print(f"{name}:{block.line}: {'not run: ' + block.reason if block.reason else 'run'}")
        if args.list or not wanted:
            continue
        with tempfile.TemporaryDirectory(prefix="pellucid-book-") as temporary:
            folder = pathlib.Path(temporary) / "pellucid"
            copy_of_repository(folder)
            for block in wanted:
                start = time.monotonic()
                wrong = run(block, folder, environment(command))
                print(f"{name}:{block.line}: {time.monotonic() - start:.1f} s", flush=True)
                if wrong:
                    sys.exit(f"{name}:{block.line}: the block {wrong}")
                ran += 1
    if not args.list:
        print(f"{ran} blocks ran; {left} are not run, each with its reason")


if __name__ == "__main__":
    main()
