"""The fast path against the slow one: the same bytes, or nothing."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from dns_harness import Chain, says

from podnet.dns import message as m
from podnet.dns.exchange import Exchange
from podnet.dns.fastpath import MAX_ENTRIES, FastPath
from podnet.dns.handler import Request, Response, Reuse, Validity, WireAnswer
from podnet.dns.wire import decode, encode

HOSTS = "\n".join(f"10.0.0.{i} many.test" for i in range(1, 60))
COREFILE = f"""
 hosts /dev/null {{
  10.0.0.1 web.test
  10.0.0.2 two.test
  10.0.0.3 two.test
  fd00::1 web.test
  {HOSTS}
 }}
"""
QUERIES = {
    "A": m.query("web.test", m.A_),
    "AAAA": m.query("web.test", m.AAAA_),
    "no data": m.query("web.test", m.MX_),
    "two addresses": m.query("two.test", m.A_),
    "no recursion": m.query("web.test", m.A_, recursion=False),
    "AD": m.query("web.test", m.A_).with_(authentic_data=True),
    "EDNS": m.query("web.test", m.A_, edns=m.Edns(1232)),
    "EDNS 4096": m.query("web.test", m.A_, edns=m.Edns(4096)),
    "EDNS below 512": m.query("web.test", m.A_, edns=m.Edns(100)),
    "long answer, long buffer": m.query("many.test", m.A_, edns=m.Edns(1232)),
    "cut at 512": m.query("many.test", m.A_),
    "mixed case": m.query("WeB.tEsT", m.A_),
    "mixed case, EDNS": m.query("WeB.tEsT", m.AAAA_, edns=m.Edns(1232)),
    "reverse": m.query("1.0.0.10.in-addr.arpa", m.PTR_),
}
NOT_FAST = {
    "DO": m.query("web.test", m.A_, edns=m.Edns(1232, do=True)),
    "cookie": m.query("web.test", m.A_, edns=m.Edns(1232, options=((10, b"12345678"),))),
    "EDNS 1": m.query("web.test", m.A_, edns=m.Edns(1232, version=1)),
    "CD": m.query("web.test", m.A_).with_(checking_disabled=True),
    "opcode": m.query("web.test", m.A_).with_(opcode=m.UPDATE),
    "class": m.Message(questions=(m.Question("web.test.", 1, m.CH),)),
    "two questions": m.Message(questions=(m.Question("web.test.", 1),) * 2),
    "response": m.query("web.test", m.A_).with_(response=True),
    "SERVFAIL": m.query("nowhere.test", m.A_),
    "too long for its EDNS": m.query("many.test", m.A_, edns=m.Edns(600)),
}


async def through_both(exchange, fast, query, now=100.0):
    """The slow answer, after which the fast path knows it; then the fast one."""
    data = encode(query.with_(id=1))
    way = Request(m.Message(), ip_address("10.244.1.5"), 40000)
    answer = await exchange.answer(data, way)
    if answer is not None and answer.response is not None and answer.response.reuse is not None:
        fast.learn(data, answer.data, answer.message, answer.response.reuse, answer.zone, now)
    again = encode(query.with_(id=0xBEEF))
    slow = await exchange.answer(again, way)
    return (slow.data if slow else None), fast.answer(again, now)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
async def test_equal_to_the_slow_path(query):
    async with Chain(COREFILE) as chain:
        exchange, fast = Exchange([chain.block]), FastPath()
        lower = query.with_(questions=(m.Question(query.question.name.lower(), query.question.type),))
        await through_both(exchange, fast, lower)
        slow, quick = await through_both(exchange, fast, query)
        assert quick == slow
        assert decode(quick).question == query.question


@pytest.mark.parametrize("query", NOT_FAST.values(), ids=NOT_FAST.keys())
async def test_left_to_the_slow_path(query):
    async with Chain(COREFILE) as chain:
        exchange, fast = Exchange([chain.block]), FastPath()
        for plain in QUERIES.values():
            await through_both(exchange, fast, plain)
        known = len(fast)
        _, quick = await through_both(exchange, fast, query)
        assert quick is None
        assert len(fast) == known


async def test_mixed_case_with_names_outside_of_pointers_is_slow():
    last = lambda request: Response(  # noqa: E731
        m.reply(request.message, answers=[m.record(request.qname, 5, m.SRV(0, 1, 2, "web.test."))]), Reuse()
    )
    async with Chain("errors", last=last) as chain:
        exchange, fast = Exchange([chain.block]), FastPath()
        slow, quick = await through_both(exchange, fast, m.query("_http._tcp.web.test", m.SRV_))
        assert quick == slow
        _, quick = await through_both(exchange, fast, m.query("_http._tcp.WEB.test", m.SRV_))
        assert quick is None


async def test_the_soa_of_a_denial_follows_the_case_by_pointers():
    def last(request):
        zone = request.qname[-len("cluster.local.") :]
        soa = m.record(zone, 5, m.SOA(f"ns.dns.{zone}", f"hostmaster.{zone}", 1, 7200, 1800, 86400, 5))
        return Response(m.reply(request.message, m.NXDOMAIN, authority=[soa]), Reuse())

    async with Chain("errors", last=last) as chain:
        exchange, fast = Exchange([chain.block]), FastPath()
        await through_both(exchange, fast, m.query("x.cluster.local", 1))
        slow, quick = await through_both(exchange, fast, m.query("X.ClUsTeR.lOcAl", 1))
        assert quick == slow
        assert decode(quick).authority[0].name == "ClUsTeR.lOcAl."


@given(st.binary(max_size=80))
@settings(max_examples=300, deadline=None)
def test_garbage_is_never_answered_fast(data):
    fast = FastPath()
    query = encode(m.query("web.test", 1))
    out = encode(m.reply(m.query("web.test", 1)))
    fast.learn(query, out, decode(out), Reuse(), ".", 0.0)
    assert fast.answer(data, 0.0) is None or data[2:] == query[2:]
    assert fast.answer(query[:12] + data, 0.0) is None or query[12:] == data


def learned(reuse, *, answers=None, name="web.test", source=None):
    fast = FastPath(source)
    query = m.query(name, 1, id_=5)
    answers = answers or [m.record(m.fqdn(name), 30, m.A(ip_address("10.0.0.1")))]
    message = m.reply(query, answers=answers)
    fast.learn(encode(query), encode(message), message, reuse, ".", 100.0)
    return fast, encode(query)


def test_revoked_data_is_gone_at_once():
    validity, other = Validity(), Validity()
    fast, query = learned(Reuse((validity, other)))
    assert fast.answer(query, 100.0) is not None
    other.revoke()
    assert fast.answer(query, 100.0) is None
    assert len(fast) == 0


def test_an_answer_ends_with_its_time():
    fast, query = learned(Reuse(expires=110.0))
    assert fast.answer(query, 109.9) is not None
    assert fast.answer(query, 110.0) is None


def test_ttls_grow_older_second_by_second():
    fast, query = learned(Reuse(expires=130.0, ages_from=98.5))
    ttls = {now: decode(fast.answer(query, now)).answers[0].ttl for now in (100.0, 100.4, 100.5, 101.6, 105.0, 105.5)}
    # It was learned with TTL 30 when 1.5 s old, that is one full second.
    assert ttls == {100.0: 30, 100.4: 30, 100.5: 29, 101.6: 28, 105.0: 25, 105.5: 24}


def test_addresses_are_turned_and_all_come_first():
    answers = [m.record("web.test.", 5, m.A(ip_address(f"10.0.0.{i}"))) for i in range(1, 5)]
    fast, query = learned(Reuse(rotates=True), answers=answers)
    seen = [[str(each.data) for each in decode(fast.answer(query, 100.0)).answers] for _ in range(4)]
    assert {each[0] for each in seen} == {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}
    assert all(sorted(each) == sorted(seen[0]) for each in seen)


def test_addresses_that_cannot_be_turned_are_not_kept():
    answers = [
        m.record("web.test.", 5, m.CNAME("x.test.")),
        *[m.record("x.test.", 5, m.A(ip_address(f"10.0.0.{i}"))) for i in (1, 2)],
    ]
    fast, query = learned(Reuse(rotates=True), answers=answers)
    assert fast.answer(query, 100.0) is None


def test_hits_are_told():
    counted, observed = [], []
    fast, query = learned(Reuse(counted=counted.append))
    fast.observer = lambda entry, hits: observed.append((entry.zone, entry.qtype, entry.rcode, hits))
    for _ in range(3):
        fast.answer(query, 100.0)
    fast.flush()
    fast.flush()
    assert counted == [3]
    assert observed == [(".", 1, 0, 3)]


def test_the_table_has_a_limit(monkeypatch):
    monkeypatch.setattr("podnet.dns.fastpath.MAX_ENTRIES", 10)
    fast = FastPath()
    for i in range(30):
        query = m.query(f"n{i}.test", 1)
        message = m.reply(query)
        fast.learn(encode(query), encode(message), message, Reuse(), ".", 0.0)
    assert len(fast) == 10
    assert fast.answer(encode(m.query("n29.test", 1)), 0.0) is not None
    assert fast.answer(encode(m.query("n0.test", 1)), 0.0) is None
    assert MAX_ENTRIES > 10_000 * 4, "ten thousand Services, two types, with and without EDNS"


@pytest.mark.parametrize("qtype", [65, 97], ids=["HTTPS", "its number in lower case"])
def test_types_are_numbers_not_letters(qtype):
    fast = FastPath()
    query = m.query("web.test", 65)
    message = m.reply(query)
    fast.learn(encode(query), encode(message), message, Reuse(), ".", 0.0)
    assert (fast.answer(encode(m.query("web.test", qtype)), 0.0) is not None) == (qtype == 65)


def test_a_source_is_asked_for_names_that_are_not_there():
    asked = []
    validity = Validity()

    def source(question):
        asked.append(question)
        body = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\0\0\1"
        return "test.", WireAnswer(0, True, 1, 0, 0, body, Reuse((validity,)), case_safe=True)

    fast = FastPath(source)
    for name, edns in (("web.test", None), ("WEB.test", None), ("web.test", m.Edns(1232))):
        query = m.query(name, 1, id_=3, edns=edns)
        expected = m.reply(query, answers=[m.record(m.fqdn(name), 5, m.A(ip_address("10.0.0.1")))])
        assert fast.answer(encode(query), 0.0) == encode(expected.with_(edns=edns))
    assert asked == [b"\3web\4test\0\0\1\0\1"] * 2, "once with EDNS and once without"
    assert fast.answer(encode(m.query("web.test", 1).with_(opcode=2)), 0.0) is None


async def test_what_depends_on_the_client_is_not_kept():
    for text in ("log", "acl {\n allow net 10.0.0.0/8\n}"):
        async with Chain(f"{text}\n{COREFILE}") as chain:
            assert (await chain.respond("web.test")).reuse is None
    async with Chain("errors\nloadbalance\ncache\n" + COREFILE) as chain:
        assert (await chain.respond("two.test")).reuse.rotates
    async with Chain("whoami") as chain:
        assert (await chain.respond("web.test")).reuse is None


async def test_opaque_plugins_hide_what_is_prepared():
    async with Chain("errors\nloadbalance\ncache 30\nloop\n", last=says()) as chain:
        from podnet.dns.exchange import Block
        from podnet.dns.handler import Plugin

        class Ready(Plugin):
            name = "kubernetes"

            def prepare(self, question):
                return WireAnswer(0, True, 0, 0, 0, b"", Reuse(), case_safe=True, stride=16)

        block = Block.of(".", [*chain.plugins, Ready()])
        assert block.prepare(b"\0\0\1\0\1").reuse.rotates
        acl = Chain("acl {\n allow\n}").plugins
        assert Block.of(".", [*acl, Ready()]).prepare(b"\0\0\1\0\1") is None
