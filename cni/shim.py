"""The executed CNI plugin where there is no C compiler: launcher.c in Python, for `python -IS`.

It is copied into the node's plugin directory and run without site packages; `_socket` instead of `socket` saves half of
the start. It decides nothing: see launcher.c, and keep the two alike.
"""

import _socket
import os
import sys

SIDECAR = ".podnet-bridge"
ANSWER_TIMEOUT_S = 60
OFFLINE = "import sys; sys.path.insert(0, sys.argv[1]); from podnet.cni.offline import main; main(sys.argv[2:])"


def fail(what: str, error: OSError) -> None:
    """Print an error object, as the spec asks, and exit; code 5 is an I/O failure."""
    text = f'"code": 5, "msg": "podnet-bridge: {what}", "details": "{error.strerror}"'
    os.write(1, f'{{"cniVersion": "1.1.0", {text}}}\n'.encode())
    os._exit(1)


def read_all(fd: int) -> bytes:
    """Read to the end."""
    chunks = []
    while chunk := os.read(fd, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


def ask_daemon(path: str, data: bytes) -> bytes:
    """The daemon's answer, empty when there is none."""
    call = [k + b"=" + v + b"\0" for k, v in os.environb.items() if k.startswith(b"CNI_")]
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.settimeout(ANSWER_TIMEOUT_S)
        sock.connect(path)
        sock.sendall(b"".join(call) + b"\0" + data)
        sock.shutdown(_socket.SHUT_WR)
        chunks = []
        while chunk := sock.recv(65536):
            chunks.append(chunk)
        return b"".join(chunks)
    except OSError:
        return b""
    finally:
        sock.close()


def go_offline(node: list[str], data: bytes) -> None:
    """Become the offline plugin, with what was read put back as standard input."""
    fd = os.memfd_create("cni-stdin", 0)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    os.dup2(fd, 0)
    _, python, root, state, run = node
    os.execv(python, [python, "-IS", "-c", OFFLINE, root, state, run])


def main() -> None:
    """Relay one call."""
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        fd = os.open(os.path.join(here, SIDECAR), os.O_RDONLY)
        node = read_all(fd).decode().splitlines()[:5]
        os.close(fd)
        data = read_all(0) if os.environ.get("CNI_COMMAND") and not os.isatty(0) else b""
        answer = ask_daemon(node[0], data)
        if len(answer) < 2:
            go_offline(node, data)
    except OSError as error:
        fail("cannot relay the call", error)
    view = memoryview(answer)[2:]
    while view:
        view = view[os.write(2 if answer[1] == 2 else 1, view) :]
    sys.stdout.flush()
    os._exit(answer[0])


if __name__ == "__main__":
    main()
