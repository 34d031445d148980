"""The kube-apiserver process: store, registry, listeners, and an orderly end.

main.serve_apiserver(config) blocks until SIGTERM or SIGINT
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import ssl
import time
from pathlib import Path

import uvloop
from aiohttp import web

from podnet.controlplane.api.errors import StatusError
from podnet.controlplane.apiserver.bootstrap import ensure_bootstrap
from podnet.controlplane.apiserver.config import APIServerConfig
from podnet.controlplane.apiserver.expiry import expire_events
from podnet.controlplane.apiserver.http.authentication import Authenticator
from podnet.controlplane.apiserver.http.server import APIServer
from podnet.controlplane.apiserver.http.streams import KubeletStreams
from podnet.controlplane.apiserver.registry import Registry
from podnet.controlplane.apiserver.subresources.token import check_token
from podnet.controlplane.apiserver.tokens import TokenIssuer
from podnet.controlplane.metrics import Registry as Metrics
from podnet.controlplane.process_metrics import add_process_metrics
from podnet.controlplane.store import open_store
from podnet.controlplane.store.measured import MeasuredStore
from podnet.controlplane.store.types import Store, StoreError

log = logging.getLogger("apiserver")

SHUTDOWN_S = 2.0
COMPACTION_INTERVAL_S = 300.0
"""History older than this many seconds is forgotten, as upstream's compactor does."""
BOOTSTRAP_INTERVAL_S = 10.0
"""How often it is made sure that the objects of the cluster's birth are there (upstream: 10 s)."""
BACKLOG = 1024
DEFAULT_PORT = 6443


def serve_apiserver(config: APIServerConfig) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight and return."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(run_apiserver(config))
        except CannotStartError as error:
            raise SystemExit(f"kube-apiserver: {error}") from None


class CannotStartError(Exception):
    """Something outside is in the way: a taken address, a missing file, a store that cannot be opened."""


async def run_apiserver(config: APIServerConfig, *, started: asyncio.Event | None = None) -> None:
    """The same inside a running loop; `started` is set when requests are answered."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(RuntimeError, ValueError):  # not the main thread: the caller cancels instead
            loop.add_signal_handler(number, stop.set)
    listeners = open_listeners(config)
    try:
        context = server_tls(config.pki_dir)
        metrics = Metrics()
        store = MeasuredStore(open_store(config.store_driver, config.store_dir, config.etcd), metrics)
    except (OSError, StoreError) as error:
        raise CannotStartError(str(error)) from error
    registry = Registry(
        store,
        service_cidr=config.service_cidr,
        node_port_range=config.node_port_range,
        default_toleration_s=config.default_toleration_s,
    )
    api = build_server(registry, config, metrics)
    runner = web.ServerRunner(api.server(), shutdown_timeout=SHUTDOWN_S)
    add_process_metrics(metrics)
    try:
        await registry.start()
        await ensure_bootstrap(registry, advertise_address=config.advertise_address, port=listen_port(config))
        api.ready = True
        await runner.setup()
        for listener in listeners:
            await web.SockSite(runner, listener, ssl_context=context, backlog=BACKLOG).start()
        gc.collect()
        gc.freeze()
        log.info("serving", extra={"bind": config.bind, "revision": registry.cache.revision})
        if started is not None:
            started.set()
        await _until_stopped(stop, registry, store, config)
    finally:
        await registry.stop()
        await runner.cleanup()
        await api.close()
        await store.close()


def build_server(registry: Registry, config: APIServerConfig, metrics: Metrics) -> APIServer:
    """The HTTP server of a configuration."""
    issuer = TokenIssuer(config.pki_dir / "sa.key", config.service_account_issuer, time.time)
    authenticator = Authenticator(lambda token: check_token(registry, issuer, token, []))
    streams = KubeletStreams(registry, kubelet_tls(config.pki_dir))
    address = f"{config.advertise_address}:{listen_port(config)}"
    return APIServer(registry, authenticator, tokens=issuer, streams=streams, external_address=address, metrics=metrics)


async def _until_stopped(stop: asyncio.Event, registry: Registry, store: Store, config: APIServerConfig) -> None:
    """Wait for the signal and keep house meanwhile; a store whose watch broke ends the process, which is started again."""
    stopping = asyncio.create_task(stop.wait())
    keeping = asyncio.create_task(_keep_bootstrap(registry, config))
    forgetting = asyncio.create_task(_forget_for_ever(registry, store))
    watching = asyncio.ensure_future(registry.cache.failed) if registry.cache.failed is not None else stopping
    try:
        done, _ = await asyncio.wait({stopping, forgetting, keeping, watching}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (stopping, forgetting, keeping):
            task.cancel()
        await asyncio.gather(stopping, forgetting, keeping, return_exceptions=True)


async def _keep_bootstrap(registry: Registry, config: APIServerConfig) -> None:
    """`kubectl delete all --all` takes the `kubernetes` Service, too: it comes back, as upstream's reconciler has it."""
    while True:
        await asyncio.sleep(BOOTSTRAP_INTERVAL_S)
        try:
            await ensure_bootstrap(registry, advertise_address=config.advertise_address, port=listen_port(config))
        except (StoreError, StatusError):
            log.exception("bootstrap objects are not complete")


async def _forget_for_ever(registry: Registry, store: Store) -> None:
    """Every five minutes forget history older than five minutes, and events older than their hour."""
    previous = registry.cache.revision
    while True:
        await asyncio.sleep(COMPACTION_INTERVAL_S)
        try:
            if previous > 0:
                await store.compact(previous)
            await expire_events(registry)
        except (StoreError, StatusError):
            log.exception("compaction failed", extra={"revision": previous})
        previous = registry.cache.revision


def listen_port(config: APIServerConfig) -> int:
    """The port that Endpoints of the `kubernetes` Service name."""
    return config.bind[0][1] if config.bind else DEFAULT_PORT


def open_listeners(config: APIServerConfig) -> list[socket.socket]:
    """Bound sockets of `bind`, and the inherited ones, which are listening already."""
    listeners = []
    for host, port in config.bind:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            listener.close()
            raise CannotStartError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        listener.setblocking(False)
        listeners.append(listener)
    for descriptor in config.inherited_fds:
        # the descriptor is the supervisor's to hand to the next process as well: work on a duplicate
        listener = socket.socket(fileno=os.dup(descriptor))
        listener.setblocking(False)
        listeners.append(listener)
    return listeners


def server_tls(pki_dir: Path) -> ssl.SSLContext:
    """TLS with optional client certificates of the cluster's authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pki_dir / "apiserver.crt", pki_dir / "apiserver.key")
    context.load_verify_locations(pki_dir / "ca.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def kubelet_tls(pki_dir: Path) -> ssl.SSLContext:
    """TLS towards kubelets; they are known by address, which their certificates name."""
    context = ssl.create_default_context(cafile=str(pki_dir / "ca.crt"))
    context.load_cert_chain(pki_dir / "apiserver-kubelet-client.crt", pki_dir / "apiserver-kubelet-client.key")
    return context
