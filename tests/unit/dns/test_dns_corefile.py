"""The Corefile: grammar, errors with file, line and word, and what keys mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podnet.dns.config import ConfigError, Setup, cidr_zones, load_config, longest_match, parse_config, parse_duration
from podnet.dns.corefile import Token, parse_corefile
from podnet.dns.metrics import Registry
from podnet.dns.registry import ORDER, build_plugins

UPSTREAM_DEFAULT = """
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    prometheus :9153
    forward . 10.0.0.1 {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
"""


def shape(text, **kwargs):
    """Keys and directives as plain lists."""

    def plain(directives):
        return [[each.name, *each.words, *([plain(each.block)] if each.has_block else [])] for each in directives]

    return [[[key.text for key in block.keys], plain(block.directives)] for block in parse_corefile(text, **kwargs)]


GRAMMAR = {
    "one block": (". {\n whoami\n}", [[["."], [["whoami"]]]]),
    "without braces": (".:1053\nwhoami\nlog", [[[".:1053"], [["whoami"], ["log"]]]]),
    "several keys": ("a b,c {\n}", [[["a", "b", "c"], []]]),
    "keys over lines": ("a,\nb {\n}", [[["a", "b"], []]]),
    "comments": ("# x\na { # y\n log # z\n}", [[["a"], [["log"]]]]),
    "comment at a word": ("a {\n log#z\n}", [[["a"], [["log"]]]]),
    "quotes": ('a {\n x "b c" "" "d\\"e"\n}', [[["a"], [["x", "b c", "", 'd"e']]]]),
    "backslashes in quotes stay": ('a {\n x "\\d+"\n}', [[["a"], [["x", "\\d+"]]]]),
    "quoted braces are words": ('a {\n x "{" "}"\n}', [[["a"], [["x", "{", "}"]]]]),
    "quote over lines": ('a {\n x "b\nc" d\n y\n}', [[["a"], [["x", "b\nc", "d"], ["y"]]]]),
    "nested blocks": ("a {\n x 1 {\n  y {\n   z\n  }\n }\n}", [[["a"], [["x", "1", [["y", [["z"]]]]]]]]),
    "snippet": ("(s) {\n log\n}\na {\n import s\n x\n}", [[["a"], [["log"], ["x"]]]]),
    "snippet twice": ("(s) {\n log\n}\na {\n import s\n import s\n}", [[["a"], [["log"], ["log"]]]]),
    "snippet with arguments": ("(s) {\n x {args[0]} {args[1]}\n}\na {\n import s 1 2\n}", [[["a"], [["x", "1", "2"]]]]),
    "snippet in a snippet": ("(s) {\n log\n}\n(t) {\n import s\n x\n}\na {\n import t\n}", [[["a"], [["log"], ["x"]]]]),
    "several blocks": ("a {\n}\nb {\n}", [[["a"], []], [["b"], []]]),
    "regular expression": (
        "a {\n x ^ip-(?P<a>[0-9]{1,3})$ {1}.b\n}",
        [[["a"], [["x", "^ip-(?P<a>[0-9]{1,3})$", "{1}.b"]]]],
    ),
    "byte order mark": ("\ufeffa {\n}", [[["a"], []]]),
    "empty": ("", []),
    "windows line ends": ("a {\r\n log\r\n}\r\n", [[["a"], [["log"]]]]),
}


@pytest.mark.parametrize(("text", "expected"), GRAMMAR.values(), ids=GRAMMAR.keys())
def test_grammar(text, expected):
    assert shape(text) == expected


ERRORS = {
    "open brace": (". {\n log", 1, "never closed"),
    "closing brace too many": ("a {\n}\n}", 3, "unexpected '}'"),
    "brace without directive": ("a {\n {\n }\n}", 2, "unexpected '{'"),
    "words behind the brace": ("a { log\n}", 1, "unexpected word"),
    "no keys": ("{\n}", 1, "needs a zone"),
    "open quote": ('a {\n x "b\n}', 2, "never closed"),
    "import of nothing": ("a {\n import\n}", 2, "import needs"),
    "import of a missing file": ("a {\n import nowhere\n}", 2, "not found"),
    "snippet twice": ("(s) {\n}\n(s) {\n}\n", 3, "redeclaration"),
    "snippet without braces": ("(s)\nlog", 1, "needs a '{'"),
    "snippet open": ("(s) {\n log\n", 1, "never closed"),
    "snippet without a name": ("() {\n}\n", 1, "needs a name"),
    "circle": ("(s) {\n import s\n}\na {\n import s\n}", 2, "circle"),
    "second block without braces": ("a {\n}\nb\nlog", 3, "expected '{'"),
    "two wildcards": ("a {\n import */*.conf\n}", 2, "one wildcard"),
}


@pytest.mark.parametrize(("text", "line", "reason"), ERRORS.values(), ids=ERRORS.keys())
def test_errors_say_file_line_and_reason(text, line, reason):
    with pytest.raises(ConfigError) as caught:
        parse_corefile(text, "/etc/coredns/Corefile")
    assert caught.value.line == line
    assert reason in str(caught.value)
    assert f"Corefile:{line} - Error during parsing: " in str(caught.value)


def test_environment():
    environ = {"UP": "10.0.0.1", "ZONE": "a.test"}
    text = "{$ZONE}:53 {\n forward . {%UP%}:{$PORT} x{$UP}y\n}"
    assert shape(text, environ=environ) == [[["a.test:53"], [["forward", ".", "10.0.0.1:", "x10.0.0.1y"]]]]


def test_import_of_files_and_patterns(tmp_path):
    (tmp_path / "one.conf").write_text("log\n")
    (tmp_path / "two.conf").write_text("errors\nx 1")
    (tmp_path / "blocks").write_text("b {\n}\n")
    text = "import blocks\na {\n import *.conf\n whoami\n}"
    file = str(tmp_path / "Corefile")
    assert shape(text, file=file) == [[["b"], []], [["a"], [["log"], ["errors"], ["x", "1"], ["whoami"]]]]
    (tmp_path / "two.conf").write_text("errors\n}")
    with pytest.raises(ConfigError) as caught:
        parse_corefile(text, file)
    assert caught.value.file.endswith(("two.conf", "Corefile"))


KEYS = {
    "plain": ("example.org", [("example.org.", 53)]),
    "upper case": ("Example.ORG.", [("example.org.", 53)]),
    "port": ("example.org:1053", [("example.org.", 1053)]),
    "scheme": ("dns://example.org:1053", [("example.org.", 1053)]),
    "root": (".", [(".", 53)]),
    "only a port": (":1053", [(".", 1053)]),
    "network /24": ("10.1.2.0/24", [("2.1.10.in-addr.arpa.", 53)]),
    "network /15": ("10.0.0.0/15", [("0.10.in-addr.arpa.", 53), ("1.10.in-addr.arpa.", 53)]),
    "network with port": ("10.0.0.0/8:5300", [("10.in-addr.arpa.", 5300)]),
    "IPv6 network": ("2001:db8::/32", [("8.b.d.0.1.0.0.2.ip6.arpa.", 53)]),
    "IPv6 network within a nibble": (
        "2001:db8::/31",
        [("8.b.d.0.1.0.0.2.ip6.arpa.", 53), ("9.b.d.0.1.0.0.2.ip6.arpa.", 53)],
    ),
    "address": ("10.0.0.1", [("1.0.0.10.in-addr.arpa.", 53)]),
}


@pytest.mark.parametrize(("key", "expected"), KEYS.values(), ids=KEYS.keys())
def test_keys(key, expected):
    (config,) = parse_config(f"{key} {{\n whoami\n}}")
    assert [(zone.name, zone.port) for zone in config.zones] == expected


BAD_KEYS = {
    "tls": ("tls://example.org", "not served here"),
    "scheme": ("ftp://example.org", "unknown scheme"),
    "port": ("example.org:99999", "is not a number"),
    "no port": ("example.org:", "no port"),
    "network": ("10.0.0.0/40", "no network"),
    "label": ("a..b", "no zone"),
}


@pytest.mark.parametrize(("key", "reason"), BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_bad_keys(key, reason):
    with pytest.raises(ConfigError, match=reason):
        parse_config(f"{key} {{\n}}")


def test_a_zone_is_served_once_for_each_address():
    with pytest.raises(ConfigError, match=r"cannot serve dns://a\.:53 - it is already defined"):
        parse_config("a {\n}\nb a {\n}")
    assert len(parse_config("a {\n bind 127.0.0.1\n}\na {\n bind 127.0.0.2\n}\na:54 {\n}")) == 3


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match="loading Corefile: No such file"):
        load_config(tmp_path / "Corefile")


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5), ("1m30s", 90), ("250ms", 0.25), ("1h", 3600), ("1.5s", 1.5), ("0", 0)]
)
def test_durations(text, seconds):
    assert parse_duration(Token(text, "f", 1)) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["5", "s", "5x", "", "-1s", "5s6"])
def test_no_durations(text):
    with pytest.raises(ConfigError):
        parse_duration(Token(text, "f", 1))


def test_longest_match():
    zones = [".", "cluster.local.", "svc.cluster.local."]
    assert longest_match("a.svc.cluster.local.", zones) == "svc.cluster.local."
    assert longest_match("xcluster.local.", zones) == "."
    assert longest_match("a.", ["b."]) is None


def test_cidr_of_everything():
    assert cidr_zones("0.0.0.0/0") == ["in-addr.arpa."]
    assert cidr_zones("10.1.2.3/32") == ["3.2.1.10.in-addr.arpa."]


@given(st.text(alphabet='ab {}()\n"#,:.$%\\import', max_size=60))
def test_no_text_breaks_the_parser(text):
    try:
        parse_config(text)
    except ConfigError as error:
        assert error.line >= 1  # noqa: PT017 - most texts raise nothing


def test_the_default_corefile_builds_in_the_order_of_plugin_cfg():
    (config,) = parse_config(UPSTREAM_DEFAULT)
    names = [plugin.name for plugin in build_plugins(config, Registry())]
    assert names == ["reload", "ready", "health", "prometheus", "errors", "loadbalance", "cache", "loop", "forward"]
    assert sorted(names, key=ORDER.index) == names


DIRECTIVE_ERRORS = {
    "unknown": ("nonsense", "Unknown directive 'nonsense'"),
    "once": ("cache\n cache", "only be used once per Server Block"),
    "cache property": ("cache {\n  x\n }", "unknown property 'x'"),
    "cache servfail": ("cache {\n  servfail 10m\n }", "not permitted"),
    "forward without TO": ("forward .", "needs FROM and TO"),
    "forward to nowhere": ("forward . nowhere", "not an IP address or file"),
    "forward over tls": ("forward . tls://10.0.0.1", "not spoken here"),
    "forward policy": ("forward . 10.0.0.1 {\n  policy best\n }", "unknown policy"),
    "hosts ttl": ("hosts {\n  ttl -1\n }", "is not a number"),
    "health": ("health 8080", "not HOST:PORT"),
    "template class": ("template XX A", "invalid query class"),
    "template regex": ("template IN A {\n  match (\n }", "could not parse regex"),
    "template action": ('template IN A {\n  answer "{{ .Nope }} 60 IN A 1.2.3.4"\n }', "cannot do"),
    "acl action": ("acl {\n  permit\n }", "expect 'allow', 'block', 'filter' or 'drop'"),
    "acl network": ("acl {\n  block net 10.0.0.0/99\n }", "illegal CIDR"),
    "rewrite type": ("rewrite nonsense a b", "invalid rule type"),
    "rewrite regex": ("rewrite name regex ( b", "invalid regex"),
    "rewrite groups": ("rewrite name regex a(.) {2}", "not that many groups"),
    "loadbalance policy": ("loadbalance fastest", "unknown policy: fastest"),
    "loadbalance without weights": ("loadbalance weighted", "missing weight file argument"),
    "reload interval": ("reload 1s", "greater or equal"),
    "file missing": ("file /nonexistent", "cannot read zone"),
    "log class": ("log {\n  class x\n }", "unknown class"),
    "bind": ("bind nonsense0", "not a valid IP address or interface"),
    "whoami": ("whoami x", "takes no arguments"),
    "bufsize": ("bufsize 9", "is not a number"),
    "autopath": ("autopath /nonexistent", "failed to parse"),
}


@pytest.mark.parametrize(("text", "reason"), DIRECTIVE_ERRORS.values(), ids=DIRECTIVE_ERRORS.keys())
def test_directive_errors(text, reason):
    (config,) = parse_config(f". {{\n {text}\n}}")
    with pytest.raises(ConfigError) as caught:
        build_plugins(config, Registry())
    assert reason in str(caught.value)
    assert caught.value.line >= 2


def test_setup_resolves_paths_and_zones(tmp_path):
    setup = Setup((), ("a.",), root=tmp_path)
    assert setup.path(Token("x", "f", 1)) == tmp_path / "x"
    assert setup.zones_of(()) == ("a.",)
    assert setup.zones_of([Token("B", "f", 1), Token("10.0.0.0/8", "f", 1)]) == ("b.", "10.in-addr.arpa.")
