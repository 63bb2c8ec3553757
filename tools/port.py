"""Check that a port of 127.0.0.1 is free: python3 -m tools.port 8000. It needs no installed package."""

import socket
import sys


def find_trouble(port: str) -> str:
    """Return why Dormouse cannot listen on the port, or an empty text."""
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        return f"PORT={port} is no port: give a number from 1 to 65535."
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(("127.0.0.1", int(port)))
        except OSError as error:
            return f"Port {port} of 127.0.0.1 cannot be used ({error.strerror}). Choose another one, as PORT=9000."
    return ""


if __name__ == "__main__":
    sys.exit(find_trouble(sys.argv[1]) or 0)
