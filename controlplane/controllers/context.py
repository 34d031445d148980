"""What every controller is given: the client, the shared informers, the recorder, the configuration and the clock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from podnet.controlplane.client.events import EventRecorder
from podnet.controlplane.client.informer import Handler, Informer, InformerSet
from podnet.controlplane.client.types import Client
from podnet.controlplane.controllers.config import ControllerManagerConfig


@dataclass(frozen=True, slots=True)
class ControllerContext:
    """Shared by all controllers of one process. `clock` gives seconds since the epoch."""

    client: Client
    informers: InformerSet
    recorder: EventRecorder
    config: ControllerManagerConfig
    clock: Callable[[], float] = time.time


@contextlib.contextmanager
def handling(*pairs: tuple[Informer, Handler]) -> Iterator[None]:
    """Have these handlers called while the block runs: a controller that is started again leaves none behind."""
    with contextlib.ExitStack() as stack:
        for informer, handler in pairs:
            stack.callback(informer.add_handler(handler))
        yield
