"""What the scheduler is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass

from podnet.controlplane.client.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """`scheduler_name`: pods that name another scheduler are left alone."""

    endpoint: Endpoint
    scheduler_name: str = "default-scheduler"
