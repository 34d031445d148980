"""Plugins that change what is asked or in which order it is answered: loadbalance, rewrite's rarer fields, erratic,
failover between upstreams; each against CoreDNS' documented syntax."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from dns_harness import Chain, records, says, serving

from podnet.dns import message as m
from podnet.dns.config import ConfigError, parse_config
from podnet.dns.metrics import Registry
from podnet.dns.plugins.loadbalance import parse_weights, preferred, shuffle, weighted
from podnet.dns.plugins.rewrite_edns import changed
from podnet.dns.registry import build_plugins
from podnet.dns.zonefile import parse_record

ADDRESSES = [f"@ 60 IN A 10.0.0.{number}" for number in range(1, 6)]
MIXED = ["@ 60 IN CNAME web.test.", *[f"web.test. 60 IN A 10.0.0.{number}" for number in range(1, 4)]]


# --- loadbalance ------------------------------------------------------------------------------------------------------


def first_addresses(message):
    return next(str(each.data) for each in message.answers if each.type == m.A_)


async def test_weights_decide_which_address_is_first(tmp_path):
    path = tmp_path / "weights"
    path.write_text("# comment\nWEB.test\n10.0.0.1 250   # nearly always\n10.0.0.2 1\n\nother.test\n10.0.0.3 200\n")
    async with Chain(f"loadbalance weighted {path}", last=says(*MIXED)) as chain:
        counts = Counter([first_addresses(await chain.ask("www.test")) for _ in range(300)])
        assert counts["10.0.0.1"] > 270
        message = await chain.ask("www.test")
        assert message.answers[0].type == m.CNAME_
        # Only the first is chosen; the others stay in their order.
        rest = [str(each.data) for each in message.answers[2:]]
        assert rest == sorted(rest)
        assert chain.block.prepare(b"\3www\4test\0\0\1\0\1") is None


async def test_weights_are_read_again(tmp_path):
    path = tmp_path / "weights"
    path.write_text("web.test\n10.0.0.1 255\n")
    async with Chain(f"loadbalance weighted {path} {{\n reload 5s\n}}", last=says(*MIXED)) as chain:
        (plugin,) = chain.plugins
        path.write_text("web.test\n10.0.0.3 255\n")
        plugin.refresh(path)
        assert [*plugin.weights["web.test."].values()] == [255]
        assert str(next(iter(plugin.weights["web.test."]))) == "10.0.0.3"
        path.write_text("web.test\n10.0.0.3 0\n")
        plugin.refresh(path)
        assert str(next(iter(plugin.weights["web.test."]))) == "10.0.0.3", "wrong weights change nothing"


async def test_limit_and_preference():
    async with Chain("loadbalance {\n limit_answers 2\n}", last=says(*ADDRESSES)) as chain:
        found = {tuple(records(await chain.ask("www.test"))) for _ in range(40)}
        assert {len(each) for each in found} == {2}
        assert len(found) > 3
    text = "loadbalance round_robin {\n prefer 10.0.0.4/31\n limit_answers 3\n}"
    async with Chain(text, last=says(*ADDRESSES)) as chain:
        for _ in range(20):
            answers = [str(each.data) for each in (await chain.ask("www.test")).answers]
            assert set(answers[:2]) == {"10.0.0.4", "10.0.0.5"}
            assert len(answers) == 3


RECORDS = st.lists(
    st.sampled_from(
        [
            parse_record(text)
            for text in (
                "a. 5 IN A 10.0.0.1",
                "a. 5 IN A 10.0.0.2",
                "a. 5 IN AAAA fd00::1",
                "b. 5 IN CNAME a.",
                "a. 5 IN MX 1 a.",
                'a. 5 IN TXT "x"',
            )
        ]
    ),
    max_size=8,
)


@given(RECORDS)
def test_ordering_loses_and_adds_nothing(answers):
    from ipaddress import ip_network

    for ordered in (shuffle(answers), weighted(answers, {}), preferred(answers, [ip_network("10.0.0.2/32")])):
        assert Counter(map(str, ordered)) == Counter(map(str, answers))
    aliases = [each.type == m.CNAME_ for each in shuffle(answers)]
    if sum(each.type in {m.A_, m.AAAA_} for each in answers) > 1:
        assert aliases == sorted(aliases, reverse=True), "CNAMEs stay first"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.1 5", "line 1: neither"),
        ("a.test\n10.0.0.1 0", "line 2: a weight is from 1 to 255"),
        ("a.test\n10.0.0.1 256", "a weight"),
        ("a.test\nnonsense 5", "line 2"),
        ("a.test\n10.0.0.1 1 1", "neither"),
        ("a.test\nA.test.", "twice"),
        ("a..test", "1 to 63 bytes"),
    ],
)
def test_wrong_weights(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_weights(text)


# --- rewrite: edns0 and cname ----------------------------------------------------------------------------------------

EDNS = {
    "text": ("local set 0xffee abcd", (), ((0xFFEE, b"abcd"),)),
    "hex": ("local set 65518 0x61626364", (), ((0xFFEE, b"abcd"),)),
    "append to nothing": ("local append 5 x", (), ((5, b"x"),)),
    "append to something": ("local append 5 x", ((5, b"old"),), ((5, b"old"),)),
    "replace nothing": ("local replace 5 x", (), ()),
    "replace something": ("local replace 5 x", ((5, b"old"), (6, b"")), ((5, b"x"), (6, b""))),
    "unset": ("local unset 5", ((5, b"old"), (6, b"")), ((6, b""),)),
    "name": ("local set 1 {qname}", (), ((1, b"a.test."),)),
    "type": ("local set 1 {qtype}", (), ((1, b"\0\1"),)),
    "client": ("local set 1 {client_ip}", (), ((1, bytes((10, 244, 1, 5))),)),
    "port": ("local set 1 {client_port}", (), ((1, (40000).to_bytes(2, "big")),)),
    "protocol": ("local set 1 {protocol}", (), ((1, b"udp"),)),
    "metadata is empty": ("local set 1 {some/label}", (), ((1, b""),)),
    "nsid": ("nsid set", (), ((3, b""),)),
    "subnet": ("subnet set 24 56", (), ((8, b"\0\1\x18\0\x0a\xf4\x01"),)),
    "subnet not on a byte": ("subnet set 12 56", (), ((8, b"\0\1\x0c\0\x0a\xf0"),)),
}


@pytest.mark.parametrize(("rule", "before", "after"), EDNS.values(), ids=EDNS.keys())
async def test_rewrite_edns(rule, before, after):
    seen = []

    def last(request):
        seen.append(request.message.edns.options if request.message.edns else ())
        return m.reply(request.message)

    async with Chain(f"rewrite edns0 {rule}", last=last) as chain:
        message = await chain.ask("a.test", edns=m.Edns(1232, options=before) if before else None)
    assert seen == [after]
    assert message.question.name == "a.test."


async def test_an_option_is_taken_out_again():
    def last(request):
        return m.reply(request.message).with_(edns=request.message.edns)

    async with Chain("rewrite edns0 local set 9 x revert", last=last) as chain:
        assert (await chain.ask("a.test")).edns.options == ()
    async with Chain("rewrite edns0 local set 9 x", last=last) as chain:
        assert (await chain.ask("a.test")).edns.options == ((9, b"x"),)


OPTIONS = st.lists(st.tuples(st.integers(0, 4), st.binary(max_size=2)), max_size=4).map(tuple)


@given(OPTIONS, st.sampled_from(["set", "append", "replace", "unset"]), st.integers(0, 4))
def test_an_action_on_options_is_idempotent_and_touches_one_code(options, action, code):
    once = changed(options, action, code, b"new")
    assert changed(once, action, code, b"new") == once
    assert [each for each in once if each[0] != code] == [each for each in options if each[0] != code]


async def test_an_alias_is_sent_elsewhere():
    below = says("@ 60 IN CNAME web.cdn.test.", "web.cdn.test. 60 IN A 10.0.0.1")
    text = "rewrite cname suffix cdn.test mirror.test\n hosts /dev/null {\n 10.0.0.9 web.mirror.test\n fallthrough\n}"
    async with Chain(text, last=below) as chain:
        message = await chain.ask("www.test")
        assert records(message) == ["www.test. CNAME web.mirror.test.", "web.mirror.test. A 10.0.0.9"]
    async with Chain("rewrite cname exact other.test mirror.test", last=below) as chain:
        assert len((await chain.ask("www.test")).answers) == 2


# --- template: numbers and extended errors ---------------------------------------------------------------------------


async def test_a_template_reads_numbers():
    text = 'template IN A {\n match "^h(?P<n>[0-9a-fx]+)[.]test[.]$"\n answer "{{ .Name }} 5 IN A 10.0.0.{{ parseInt .Group.n 16 8 }}"\n}'
    async with Chain(text) as chain:
        assert records(await chain.ask("h7b.test")) == ["h7b.test. A 10.0.0.123"]
        assert (await chain.ask("hfff.test")).rcode == m.SERVFAIL


async def test_an_extended_error_reaches_who_can_read_it():
    text = 'template ANY ANY invalid {\n rcode NXDOMAIN\n ederror 21 "not here"\n}'
    async with Chain(text) as chain:
        from podnet.dns.wire import decode, encode

        asked = m.query("x.invalid", m.A_, id_=1, edns=m.Edns(1400))
        answer = decode(await chain.exchange(encode(asked)))
        assert answer.edns.options == ((15, b"\0\x15not here"),)
        assert answer.edns.payload == 1400
        plain = decode(await chain.exchange(encode(m.query("x.invalid", m.A_, id_=1))))
        assert (plain.edns, plain.rcode) == (None, m.NXDOMAIN)


# --- erratic ----------------------------------------------------------------------------------------------------------


async def test_erratic_misbehaves_in_turns():
    async with Chain("erratic {\n drop 3\n truncate 2\n}") as chain:
        responses = [await chain.respond("a.test") for _ in range(6)]
        assert [each.silent for each in responses] == [True, False, False, True, False, False]
        assert [each.message.truncated for each in responses] == [True, False, True, False, True, False]
        assert records(responses[1].message) == ["a.test. A 192.0.2.53"]
        assert records(await chain.ask("a.test", "AAAA")) == ["a.test. AAAA 2001:db8::53"]
        assert (await chain.ask("a.test", "MX")).rcode == m.SERVFAIL
        assert (await chain.ask("a.test", "AXFR")).rcode == m.REFUSED
        assert all(each.reuse is None for each in responses)


async def test_erratic_takes_its_time(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr("podnet.dns.plugins.erratic.asyncio.sleep", sleep)
    async with Chain("erratic {\n delay 2 50ms\n}") as chain:
        for _ in range(4):
            await chain.ask("a.test")
    assert slept == [0.05, 0.05]


# --- forward: rcodes to fail over from -------------------------------------------------------------------------------

REFUSING = ". {\n bind 127.0.0.1\n template ANY ANY {\n rcode %s\n}\n}"
HOSTS = ". {\n bind 127.0.0.1\n hosts /dev/null {\n 192.0.2.1 www.example.com\n}\n}"


@contextlib.asynccontextmanager
async def two(first, second):
    async with serving(first) as one, serving(second) as other:
        yield " ".join(f"{host}:{port}" for host, port in (one.addresses[0], other.addresses[0]))


async def test_failover_asks_the_next_upstream():
    async with two(REFUSING % "REFUSED", HOSTS) as to:
        for extra, rcode in (("failover REFUSED SERVFAIL", 0), ("failover SERVFAIL", 5), ("", 5)):
            async with Chain(f"forward . {to} {{\n policy sequential\n {extra}\n}}") as chain:
                assert (await chain.ask("www.example.com")).rcode == rcode
    async with two(REFUSING % "SERVFAIL", REFUSING % "REFUSED") as to:
        text = f"forward . {to} {{\n policy sequential\n failover SERVFAIL REFUSED\n}}"
        async with Chain(text) as chain:
            assert (await chain.ask("www.example.com")).rcode == m.REFUSED, "the last one has the last word"


async def test_next_on_nodata():
    async with serving(HOSTS) as server:
        host, port = server.addresses[0]
        text = f"forward . {host}:{port} {{\n next_on_nodata\n}}"
        async with Chain(text, last=says("@ 5 IN TXT x")) as chain:
            assert (await chain.ask("www.example.com", "TXT")).answers
            assert chain.asked == [("www.example.com.", "TXT")]
            await chain.ask("www.example.com", "A")
            assert len(chain.asked) == 1


# --- what is wrong, and where ----------------------------------------------------------------------------------------

WRONG = {
    "edns kind": ("rewrite edns0 cookie set 1", "invalid rule type 'cookie'"),
    "edns action": ("rewrite edns0 local add 1 x", "invalid action 'add'"),
    "edns code": ("rewrite edns0 local set 99999 x", "no option code"),
    "edns data": ("rewrite edns0 local set 5 0xzz", "no hexadecimal data"),
    "edns variable": ("rewrite edns0 local set 5 {nope}", "unsupported variable name '{nope}'"),
    "edns subnet": ("rewrite edns0 subnet set 33 56", "not a number from 0 to 32"),
    "edns count": ("rewrite edns0 subnet set 24", "needs 2 more values"),
    "cname": ("rewrite cname a", "cname rules need FROM and TO"),
    "erratic property": ("erratic {\n  lie\n }", "unknown property 'lie'"),
    "erratic argument": ("erratic 3", "takes no arguments"),
    "erratic amount": ("erratic {\n  drop x\n }", "not a number"),
    "weights": ("loadbalance weighted /nonexistent", "cannot read the weight file"),
    "limit": ("loadbalance {\n  limit_answers 0\n }", "not a number from 1"),
    "reload without weights": ("loadbalance {\n  reload 5s\n }", "reload is for the policy weighted"),
    "prefer": ("loadbalance {\n  prefer 10.0.0.0/40\n }", "invalid CIDR '10.0.0.0/40'"),
    "loadbalance property": ("loadbalance {\n  sticky\n }", "unknown property 'sticky'"),
    "failover": ("forward . 10.0.0.1 {\n  failover NOERROR\n }", "NOERROR cannot be used"),
    "tls": ("forward . 10.0.0.1 {\n  tls_servername a\n }", "'tls_servername' is not supported"),
    "prefetch": ("cache {\n  prefetch 1 1m 5%\n }", "from 10% to 90%"),
    "parseInt": ('template IN A {\n  match (?P<a>.)\n  answer "{{ parseInt .Group.a 99 8 }}"\n }', "no base 99"),
    "ederror": ("template IN A {\n  ederror x\n }", "not a number"),
}


@pytest.mark.parametrize(("text", "reason"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said_with_its_line(text, reason):
    (config,) = parse_config(f". {{\n {text}\n}}", "/etc/Corefile")
    with pytest.raises(ConfigError) as caught:
        build_plugins(config, Registry())
    assert reason in str(caught.value)
    assert str(caught.value).startswith("/etc/Corefile:")
    # The token it points at stands on the line it names.
    assert caught.value.token in f". {{\n {text}\n}}".split("\n")[caught.value.line - 1]
