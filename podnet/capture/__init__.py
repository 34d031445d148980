"""Capturing at several points at once into one pcapng file: `CapturePoint`, `run_capture`."""

from podnet.capture.capture import CapturePoint, run_capture

__all__ = ["CapturePoint", "run_capture"]
