"""Runs a command in a terminal of its own: terminal.py COLUMNS ROWS COMMAND...

What the command writes comes out on stdout. Lines on stdin are JSON: a text is typed, [COLUMNS, ROWS] is a new size of
the window. At the end stderr has one line of JSON: {"code", "echo", "canonical"}, the latter of the terminal as it was left.
"""

import errno
import fcntl
import json
import os
import select
import signal
import struct
import sys
import termios


def resize(fd, columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read(fd):
    try:
        return os.read(fd, 65536)
    except OSError as error:
        # The last one who had the terminal has let go of it.
        if error.errno == errno.EIO:
            return b""
        raise


def main():
    controller, terminal = os.openpty()
    resize(controller, int(sys.argv[1]), int(sys.argv[2]))
    child = os.fork()
    if child == 0:
        os.close(controller)
        os.login_tty(terminal)
        os.execvp(sys.argv[3], sys.argv[3:])
    wanted = b""
    open_input = True
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        ready, _, _ = select.select([controller] + ([0] if open_input else []), [], [], 0 if done else 0.05)
        if controller in ready:
            os.write(1, read(controller))
        elif done:
            break
        if 0 in ready:
            data = os.read(0, 65536)
            if data == b"":
                open_input = False
                os.kill(child, signal.SIGKILL)
            wanted += data
            *lines, wanted = wanted.split(b"\n")
            for line in lines:
                order = json.loads(line)
                if isinstance(order, str):
                    os.write(controller, order.encode())
                else:
                    resize(controller, *order)
    flags = termios.tcgetattr(terminal)[3]
    left = {
        "code": os.waitstatus_to_exitcode(status),
        "echo": bool(flags & termios.ECHO),
        "canonical": bool(flags & termios.ICANON),
    }
    print(json.dumps(left), file=sys.stderr)


main()
