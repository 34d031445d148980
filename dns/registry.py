"""Which plugins there are, and their order in the chain: fixed at build time as in CoreDNS' plugin.cfg, whatever the
order in the Corefile.

The rule kept here: a plugin's module is imported when a Corefile names it, so that a server starts with what it needs.
A module `podnet.dns.plugins.<directive>` has `setup(setup: Setup) -> Sequence[Plugin]`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from podnet.dns.config import ConfigError, Directive, ServerConfig, Setup
from podnet.dns.handler import Plugin
from podnet.dns.metrics import Registry

ORDER: Final = (
    "root",
    "reload",
    "bufsize",
    "bind",
    "debug",
    "ready",
    "health",
    "prometheus",
    "errors",
    "log",
    "local",
    "any",
    "loadbalance",
    "rewrite",
    "autopath",
    "acl",
    "cache",
    "template",
    "hosts",
    "kubernetes",
    "file",
    "loop",
    "forward",
    "erratic",
    "whoami",
)
"""First is outermost. (`root` and `bufsize` are small and common enough in Corefiles to be here too; `erratic` is
what an upstream that misbehaves is tried out with.)"""


def check_directives(config: ServerConfig) -> None:
    """Every line begins with the name of a plugin."""
    for directive in config.directives:
        if directive.name not in ORDER:
            raise ConfigError(f"Unknown directive '{directive.name}'", directive.token)


def build_plugins(
    config: ServerConfig, metrics: Registry, *, corefile: Path | None = None, environ: Mapping[str, str] | None = None
) -> list[Plugin]:
    """The plugins of one server block, outermost first."""
    check_directives(config)
    by_name: dict[str, list[Directive]] = {}
    for directive in config.directives:
        by_name.setdefault(directive.name, []).append(directive)
    root = corefile.parent if corefile else Path()
    for directive in by_name.get("root", ()):
        if len(directive.args) != 1:
            raise directive.error("root takes one directory")
        root /= directive.args[0].text
    plugins: list[Plugin] = []
    for name in ORDER:
        if name != "root" and name in by_name:
            plugins += _setup(
                name,
                Setup(
                    directives=tuple(by_name[name]),
                    zones=tuple(dict.fromkeys(zone.name for zone in config.zones)),
                    port=config.zones[0].port,
                    block=config.directives,
                    metrics=metrics,
                    root=root,
                    corefile=corefile,
                    environ=environ or {},
                ),
            )
    return plugins


def _setup(name: str, setup: Setup) -> Sequence[Plugin]:
    module = importlib.import_module(f"podnet.dns.plugins.{name}")
    plugins: Sequence[Plugin] = module.setup(setup)
    return plugins
