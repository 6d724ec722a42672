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

    def until_it_shows(self, words, secs=PATIENCE_SECS, since=0):
        """Says whether it shows these words in this time, of what it prints from `since` on."""
        deadline = time.monotonic() + secs
        while words not in self.shown()[since:]:
            if time.monotonic() > deadline:
                return False
            self.read(0.2)
        return True

    def paste(self, text):
        """Pastes a text until the program shows it. It may show its prompt before it takes keys."""
        for _ in range(PATIENCE_SECS // 8):
            since = len(self.shown())
            os.write(self._ours, b"\x1b[200~" + text.encode() + b"\x1b[201~")
            if self.until_it_shows(text[-20:], 8, since):
                return

    def enter(self):
        os.write(self._ours, b"\r")
