"""PID 1 of the room: keeps the components running, reaps every orphan, answers the control socket, stops in order.

One thread, one selector, no asyncio: it forks all the time, and a fork is only safe here. Everything that waits for
anything else than the kernel is done in a forked child (an exec, a capture, the readiness check at boot).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from podnet import wire
from podnet.components import (
    Component,
    ComponentSpec,
    close_fds_except,
    exit_text,
    failures_after_exit,
    fork_component,
    restart_delay_s,
    set_title,
    stop_order,
)

Answer = dict[str, Any]
_END_S = 2.0


@dataclass(slots=True)
class Conversation:
    """One control connection. `child`: the process that works for it, 0 when the answer was given at once."""

    sock: socket.socket
    child: int = 0
    wants_progress: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What a request may ask the supervisor to do in a forked child: `run` gets the client's descriptors as 0, 1, 2
    (those that came) and its return value is the exit code.
    """

    title: str
    run: Callable[[], int]


@dataclass(slots=True)
class Supervisor:
    """`handlers`: verb → function of the request, returning an answer at once or Work for a child. A handler that
    raises gives its text as the error.
    """

    control: socket.socket
    handlers: dict[str, Callable[[dict[str, Any]], Answer | Work]] = field(default_factory=dict)
    keep_fds: frozenset[int] = frozenset()
    on_stop: list[Callable[[], None]] = field(default_factory=list)
    on_abandoned: Callable[[], None] | None = None
    every_second: list[Callable[[], object]] = field(default_factory=list)
    components: dict[str, Component] = field(default_factory=dict)
    progress: list[dict[str, Any]] = field(default_factory=list)
    _watched: dict[int, Callable[[], bool]] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _conversations: dict[int, Conversation] = field(default_factory=dict)
    _stopping: bool = False
    _abandoned: bool = False
    _followed: bool = False
    _next_tick: float = 0.0
    _stop_waiters: list[socket.socket] = field(default_factory=list)

    # --- components ---------------------------------------------------------------------------------------------

    def add(self, spec: ComponentSpec) -> None:
        """Add a component and start it."""
        component = Component(spec)
        self.components[component_key(spec)] = component
        self._start(component)

    def remove(self, key: str) -> None:
        """Stop a component for good."""
        component = self.components.pop(key, None)
        if component is not None:
            component.wanted = False
            if component.pid:
                _signal(component.pid, signal.SIGTERM)

    def hold(self, node: str) -> None:
        """Start nothing of this node again: whatever of it ends from now on stays ended."""
        for component in self._of(node):
            component.wanted = False
            component.restart_at = 0.0

    def resume(self, node: str) -> None:
        """Start what was held."""
        for component in self._of(node):
            component.wanted = True
            component.failures_in_a_row = 0
            if not component.pid:
                self._start(component)

    def forget(self, node: str) -> None:
        """Know the components of a node no more; they were held, and have ended."""
        for component in self._of(node):
            del self.components[component_key(component.spec)]

    def _of(self, node: str) -> list[Component]:
        return [component for component in self.components.values() if component.spec.node == node]

    def _start(self, component: Component) -> None:
        component.restart_at = 0.0
        component.pid = fork_component(component.spec, self.keep_fds)
        component.started_at = time.monotonic()

    def _component_exited(self, component: Component, wait_status: int) -> None:
        now = time.monotonic()
        component.pid = 0
        component.last_exit = exit_text(wait_status)
        finished = component.spec.once and wait_status == 0
        if self._stopping or not component.wanted or finished:
            component.wanted = False
            return
        component.failures_in_a_row = failures_after_exit(component.failures_in_a_row, now - component.started_at)
        component.restarts += 1
        delay = restart_delay_s(component.failures_in_a_row)
        component.restart_at = now + delay
        _log(f"{component_key(component.spec)}: {component.last_exit}, starts again in {delay:.1f} s")

    def _restart_due(self) -> float | None:
        """Start what is due; seconds until the next one is."""
        now = time.monotonic()
        waiting = [c for c in self.components.values() if c.restart_at and not c.pid and c.wanted]
        for component in waiting:
            if component.restart_at <= now:
                self._start(component)
        pending = [c.restart_at - now for c in waiting if not c.pid]
        return max(0.0, min(pending)) if pending else None

    # --- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> NoReturn:
        """Serve until a stop is asked for; then stop in order and leave."""
        read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        self._selector.register(read_fd, selectors.EVENT_READ, "signals")
        self._selector.register(self.control, selectors.EVENT_READ, "control")
        while not self._stopping:
            timeout = self._next_timeout()
            for key, _ in self._selector.select(timeout):
                if key.data == "signals":
                    self._on_signals(os.read(read_fd, 4096))
                elif key.data == "control":
                    self._accept()
                elif key.data == "watched":
                    self._on_watched(int(key.fd))
                else:
                    self._on_conversation(key.data)
            self.reap()
        self._stop()

    def _next_timeout(self) -> float | None:
        """Do what is due; how long the loop may sleep then."""
        due = self._restart_due()
        if not self.every_second:
            return due
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + 1.0
            for hook in self.every_second:
                try:
                    hook()
                except Exception:  # PID 1 goes on, whatever a hook meets
                    traceback.print_exc()
        left = max(0.0, self._next_tick - now)
        return left if due is None else min(due, left)

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stopping = True

    def reap(self) -> None:
        """Wait for every child that is done: components, workers, and orphans that were given to PID 1."""
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            component = next((c for c in self.components.values() if c.pid == pid), None)
            if component is not None:
                self._component_exited(component, wait_status)
                continue
            for conversation in [c for c in self._conversations.values() if c.child == pid]:
                code = os.waitstatus_to_exitcode(wait_status)
                self._finish(conversation, {"done": True, "exit": code if code >= 0 else 128 - code})

    def watch_fd(self, fd: int, on_readable: Callable[[], bool]) -> None:
        """Call `on_readable` whenever `fd` can be read, until it returns False."""
        self._watched[fd] = on_readable
        self._selector.register(fd, selectors.EVENT_READ, "watched")

    def _on_watched(self, fd: int) -> None:
        if not self._watched[fd]():
            del self._watched[fd]
            self._selector.unregister(fd)
            os.close(fd)

    # --- control ------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        sock, _ = self.control.accept()
        sock.settimeout(2.0)  # a client that connects and says nothing must not hold PID 1
        try:
            request, fds = wire.receive(sock)
        except (OSError, wire.WireError) as err:
            with contextlib.suppress(OSError):
                wire.send(sock, {"done": True, "error": f"bad request: {err}"})
            sock.close()
            return
        conversation = Conversation(sock)
        try:
            self._converse(conversation, request, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _converse(self, conversation: Conversation, request: dict[str, Any], fds: list[int]) -> None:
        verb = request.get("verb")
        if verb == "stop":
            if not any(event.get("done") for event in self.progress):
                self.report({"done": True, "error": "it was stopped while it booted"})
            self._stopping = True
            self._stop_waiters.append(conversation.sock)
            return
        if verb == "progress":
            conversation.wants_progress = self._followed = True
            self._remember(conversation)
            for event in self.progress:
                self._tell(conversation, event)
            return
        handler = self.handlers.get(str(verb))
        if handler is None:
            self._finish(conversation, {"done": True, "error": f"unknown request {verb!r}"})
            return
        try:
            answer = handler(request)
        except Exception as err:
            if not isinstance(err, (ValueError, LookupError, OSError)):
                traceback.print_exc()
            self._finish(conversation, {"done": True, "error": str(err) or type(err).__name__})
            return
        if isinstance(answer, Work):
            conversation.child = self._fork_work(answer, fds, conversation.sock)
            self._remember(conversation)
        else:
            self._finish(conversation, {"done": True, **answer})

    def _fork_work(self, work: Work, fds: list[int], sock: socket.socket) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            for index, fd in enumerate(fds[:3]):
                os.dup2(fd, index)
            close_fds_except(frozenset({sock.fileno()}))
            sys.stdin, sys.stdout, sys.stderr = (
                os.fdopen(n, m, closefd=False) for n, m in ((0, "r"), (1, "w"), (2, "w"))
            )
            set_title(work.title)
            code = work.run()
        except SystemExit as err:
            code = err.code if isinstance(err.code, int) else 1
        except Exception as err:
            print(f"podnet: {err}", file=sys.stderr)
            code = 1
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _remember(self, conversation: Conversation) -> None:
        self._conversations[conversation.sock.fileno()] = conversation
        self._selector.register(conversation.sock, selectors.EVENT_READ, conversation)

    def _on_conversation(self, conversation: Conversation) -> None:
        """The client hung up, or sends a signal number for its child."""
        try:
            data = conversation.sock.recv(4096)
        except OSError:
            data = b""
        if not data:
            if conversation.child:
                _signal_group(conversation.child, signal.SIGHUP)
                _signal_group(conversation.child, signal.SIGTERM)
            self._forget(conversation)
            self._stop_if_abandoned(conversation)
            return
        for line in data.splitlines():
            with contextlib.suppress(wire.WireError, ValueError, TypeError):
                number = signal.Signals(int(wire.parse(line).get("signal", 0)))
                if conversation.child:
                    _signal_group(conversation.child, number)

    def _forget(self, conversation: Conversation) -> None:
        if self._conversations.pop(conversation.sock.fileno(), None) is not None:
            self._selector.unregister(conversation.sock)
        conversation.sock.close()

    def _finish(self, conversation: Conversation, message: dict[str, Any]) -> None:
        try:
            wire.send(conversation.sock, message)
        except OSError:
            pass  # the client has gone
        except (TypeError, ValueError):  # an answer that is no JSON is a bug, and must not be PID 1's end
            traceback.print_exc()
            with contextlib.suppress(OSError):
                wire.send(conversation.sock, {"done": True, "error": "the answer cannot be said in JSON; see the log"})
        self._forget(conversation)

    def _tell(self, conversation: Conversation, event: dict[str, Any]) -> None:
        try:
            wire.send(conversation.sock, event)
        except OSError:
            self._forget(conversation)
            self._stop_if_abandoned(conversation)
            return
        if event.get("done"):
            self._forget(conversation)

    def _stop_if_abandoned(self, conversation: Conversation) -> None:
        """Whoever boots the cluster was killed before it was up: it could not end the room, and nobody wants it."""
        if conversation.wants_progress and not any(event.get("done") for event in self.progress):
            self._stopping = self._abandoned = True

    def give_up_unfollowed(self) -> None:
        """Whoever boots the cluster was killed before it could even ask how it goes."""
        if not self._followed and not self._conversations:
            self._stopping = self._abandoned = True

    def report(self, event: dict[str, Any]) -> None:
        """Tell whoever waits for the boot how it goes; kept for those who come later."""
        self.progress.append(event)
        for conversation in [c for c in self._conversations.values() if c.wants_progress]:
            self._tell(conversation, event)

    # --- the end ------------------------------------------------------------------------------------------------

    def _stop(self) -> NoReturn:
        """Stop components rank by rank, then everything else; PID 1 leaves last and the kernel sweeps up."""
        if self._abandoned and self.on_abandoned is not None:
            self._forget_all(self.on_abandoned)
            os._exit(0)
        for group in stop_order(list(self.components.values())):
            self._stop_group(group)
        for hook in self.on_stop:
            with contextlib.suppress(Exception):
                hook()
        for sock in self._stop_waiters:
            with contextlib.suppress(OSError):
                wire.send(sock, {"done": True})
        os._exit(0)

    def _forget_all(self, forget: Callable[[], None]) -> None:
        """Nobody is left outside who could tidy up after this room: PID 1 does, once nothing else of it lives."""
        if os.getpid() == 1:  # of a PID namespace: what it may signal is the room, and no more
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            deadline = time.monotonic() + _END_S
            with contextlib.suppress(ChildProcessError):
                while time.monotonic() < deadline:
                    if os.waitpid(-1, os.WNOHANG)[0] == 0:
                        self._selector.select(0.01)
        try:
            forget()
        except Exception:
            traceback.print_exc()

    def _stop_group(self, group: list[Component]) -> None:
        running = [c for c in group if c.pid]
        for component in running:
            _signal(component.pid, signal.SIGTERM)
        deadline = time.monotonic() + max((c.spec.stop_timeout_s for c in running), default=0.0)
        while any(c.pid for c in running) and time.monotonic() < deadline:
            self._selector.select(0.01)
            self.reap()
        for component in running:
            if component.pid:
                _signal(component.pid, signal.SIGKILL)


def component_key(spec: ComponentSpec) -> str:
    """`kube-apiserver/control-plane`: unique in the cluster."""
    return f"{spec.name}/{spec.node}" if spec.node else spec.name


def _signal(pid: int, number: int) -> None:
    """Signal one process; gone is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _signal_group(pid: int, number: int) -> None:
    """Signal a worker (the leader of its own session) and what it has started, as a terminal would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _log(text: str) -> None:
    line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n"
    with contextlib.suppress(OSError):  # PID 1 outlives a full disk, and the room with it
        os.write(2, line.encode(errors="replace"))
