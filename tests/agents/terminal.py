"""A terminal for programs that a person would use."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

#: What a terminal is told and does not show.
CONTROL = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[P_][^\x1b]*\x1b\\|\x1b\[[0-9;?<>=$]*[a-zA-Z]|\x1b.")
PATIENCE_SECS = 60


class Terminal:
    """A shell command in a terminal of its own. Ends with its `with` block."""

    def __init__(self, start, command, directory, environment):
        self._start, self._command = start, command
        self._directory, self._environment = directory, environment
        self._output = b""

    def __enter__(self):
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 150, 0, 0))
        self._process = self._start(
            # It leads the terminal's session, as in a window.
            ["setsid", "--ctty", "--wait", "/bin/sh", "-c", self._command],
            cwd=self._directory,
            env=self._environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        return self

    def __exit__(self, *_):
        # The session that setsid made ends with its terminal.
        os.close(self._ours)
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def read(self, secs):
        """Reads what it prints in this time."""
        deadline = time.monotonic() + secs
        while (left := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select([self._ours], [], [], left)
            if readable:
                try:
                    self._output += os.read(self._ours, 65536)
                except OSError:
                    # Nobody has the other end any more.
                    time.sleep(left)

    def shown(self):
        return CONTROL.sub("", self._output.decode(errors="replace"))

    def until_it_shows(self, words):
        deadline = time.monotonic() + PATIENCE_SECS
        while words not in self.shown() and time.monotonic() < deadline:
            self.read(0.2)
        # It shows them a little before it takes keys.
        self.read(2)

    def type(self, text):
        """Types as a person does: programs take what comes at once for pasted."""
        for key in text:
            os.write(self._ours, key.encode())
            self.read(0.01)
        self.read(0.5)
