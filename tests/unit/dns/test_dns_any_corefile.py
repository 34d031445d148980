"""Whatever a Corefile says, it is served or refused with a file and a line: no plugin breaks over its own words."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podnet.dns.config import ConfigError, parse_config
from podnet.dns.metrics import Registry
from podnet.dns.registry import ORDER, build_plugins

# What each plugin knows, so that most lines get beyond its first check.
PROPERTIES = [
    *(
        "success",
        "denial",
        "prefetch",
        "serve_stale",
        "servfail",
        "disable",
        "keepttl",
        "except",
        "force_tcp",
        "expire",
    ),
    *(
        "max_fails",
        "policy",
        "health_check",
        "max_concurrent",
        "next",
        "failover",
        "tls",
        "ttl",
        "no_reverse",
        "reload",
    ),
    *(
        "fallthrough",
        "match",
        "answer",
        "authority",
        "additional",
        "rcode",
        "ederror",
        "name",
        "type",
        "class",
        "cname",
    ),
    *("edns0", "allow", "block", "filter", "drop", "lameduck", "monitor", "consolidate", "stacktrace", "truncate"),
    *(
        "delay",
        "limit_answers",
        "prefer",
        "pods",
        "namespaces",
        "labels",
        "ignore",
        "multicluster",
        "endpoint",
        "nodes",
    ),
]
WORDS = [
    *(
        "a.test",
        "b.test.",
        ".",
        "10.0.0.1",
        "10.0.0.0/8",
        "fd00::1",
        "10.0.0.1:53",
        ":1053",
        "[::1]:53",
        "tls://1.1.1.1",
    ),
    *(
        "0",
        "1",
        "-1",
        "99999999999999999999",
        "5s",
        "1m30s",
        "10%",
        "30",
        "1-",
        "0x12",
        "0xzz",
        "{qname}",
        "{1}",
        "{9}",
    ),
    *("(", "(.*)", "(?P<a>.)", "[", "*", "A", "AAAA", "ANY", "IN", "CH", "NXDOMAIN", "NOERROR", "random", "no_rec"),
    *("domain", "type", "net", "exact", "prefix", "suffix", "substring", "regex", "answer", "auto", "value", "set"),
    *("append", "unset", "local", "nsid", "subnet", "revert", "round_robin", "weighted", "/nonexistent", "@kubernetes"),
    *("success", "immediate", "verify", "verified", "insecure", "empty_service", "stop", "continue", "class", "all"),
    *("{{ .Name }} 60 IN A 10.0.0.1", "{{ parseInt .Group.a 16 8 }}", "{{ index .Match 3 }}", "x in (", "..", "é", '"'),
]
word = st.sampled_from(WORDS) | st.text(string.printable, max_size=6)
line = st.lists(word, max_size=5)
block = st.lists(st.tuples(st.sampled_from(PROPERTIES) | word, line), max_size=4)


def quoted(text: str) -> str:
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'


def corefile(directive: str, arguments: list[str], lines: list[tuple[str, list[str]]]) -> str:
    text = " ".join([directive, *map(quoted, arguments)])
    if lines:
        inside = "\n".join(" ".join([quoted(first), *map(quoted, rest)]) for first, rest in lines)
        text += " {\n" + inside + "\n}"
    return ".:53 {\n" + text + "\n}\n"


def refusal(text: str) -> ConfigError | None:
    """Why it is not served; None where it is."""
    try:
        for config in parse_config(text, "Corefile"):
            build_plugins(config, Registry())
    except ConfigError as error:
        return error
    return None


# `bind` and `root` look at this machine, which is no matter of grammar.
@pytest.mark.parametrize("directive", [name for name in ORDER if name not in {"bind", "root"}])
@settings(max_examples=40)
@given(arguments=line, lines=block)
def test_it_is_built_or_refused(directive, arguments, lines):
    text = corefile(directive, arguments, lines)
    error = refusal(text)
    assert error is None or (error.file == "Corefile" and 1 <= error.line <= text.count("\n") + 1)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_is_served_or_refused(text):
    error = refusal(text)
    assert error is None or str(error).startswith("Corefile:")
