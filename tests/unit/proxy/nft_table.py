"""A table in memory that takes the scripts of the nftables mode, and clusters of a few Services to write scripts about."""

from __future__ import annotations

import re

from hypothesis import strategies as st
from proxy_objects import LOCAL, ON_A_NODE_PORT, REMOTE, endpoint, model, piece, service

from podnet.proxy.nftables.render import compile_ruleset
from podnet.proxy.nftables.ruleset import Chain, NamedSet, Ruleset


def build(*services):
    """A ruleset of (name, address, endpoints, fields of the spec)."""
    return compile_ruleset(
        model(
            [service(name, clusterIP=ip, **spec) for name, ip, _, spec in services],
            [piece(*behind, name=name) for name, _, behind, _ in services],
        )
    )


SPECS = [
    {},
    {"sessionAffinity": "ClientIP"},
    {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}},
    {"internalTrafficPolicy": "Local"},
    {"type": "NodePort", "ports": ON_A_NODE_PORT, "externalTrafficPolicy": "Local"},
    {"externalIPs": ["203.0.113.7"]},
    {
        "type": "LoadBalancer",
        "ports": ON_A_NODE_PORT,
        "ingress": [{"ip": "198.51.100.9"}],
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
    },
]
BEHIND = [(), (LOCAL,), (REMOTE,), (LOCAL, REMOTE), tuple(endpoint(f"10.244.3.{n}", "n3") for n in range(1, 5))]
one_service = st.tuples(st.sampled_from(SPECS), st.sampled_from(BEHIND))
clusters = st.dictionaries(st.sampled_from(["a", "b", "c"]), one_service)


def ruleset_of(cluster):
    return build(*((name, f"10.96.0.{ord(name)}", behind, spec) for name, (spec, behind) in sorted(cluster.items())))


class Table:
    """The few commands of nft that the scripts use, with the kernel's refusals."""

    def __init__(self):
        self.chains, self.sets = {}, {}

    def run(self, script):
        for line in re.sub(r"\n\}", " }", script).splitlines():
            self._command(line)

    def _command(self, line):
        verb, kind, _, _, name, *rest = line.split(" ", 5)
        if kind == "table":
            return
        text = rest[0] if rest else ""
        if kind == "chain":
            if verb == "add":
                self.chains.setdefault(name, [])
            elif verb == "flush":
                self.chains[name].clear()
            else:
                assert not self._is_referenced(name), f"EBUSY: {line}"
                assert self.chains.pop(name) == []
        elif kind == "rule":
            for target in re.findall(r"(?:goto|jump) ([^\s,]+)", text):
                assert target in self.chains, line
            for clients in re.findall(r"@(\S+)", text):
                assert clients in self.sets, line
            self.chains[name].append(text)
        elif kind == "element":
            self._elements(verb, name, text.removeprefix("{ ").removesuffix(" }"), line)
        elif verb == "add":
            assert name not in self.sets
            self.sets[name] = {}
        elif verb == "flush":
            self.sets[name].clear()
        else:
            assert not self._is_referenced("@" + name), f"EBUSY: {line}"
            del self.sets[name]

    def listing(self):
        """As `nft list table` prints it."""
        lines = ["table ip kube-proxy {"]
        for name, elements in self.sets.items():
            lines.append(f"\t{'map' if any(' : ' in text for text in elements.values()) else 'set'} {name} {{")
            if elements:
                lines.append(f"\t\telements = {{ {(',' + chr(10) + chr(9) * 4).join(elements.values())} }}")
            lines.append("\t}")
        for name, rules in self.chains.items():
            lines += [f"\tchain {name} {{", *(f"\t\t{rule}" for rule in rules), "\t}"]
        return "\n".join([*lines, "}"])

    def as_ruleset(self):
        """What is in it by now, as a packet meets it."""
        sets = {}
        for name, elements in self.sets.items():
            verdicts = {key: text.split(" : ")[1] if " : " in text else "" for key, text in elements.items()}
            sets[name] = NamedSet("map", "", verdicts, dynamic=name.startswith("affinity-"))
        return Ruleset({name: Chain(tuple(rules)) for name, rules in self.chains.items()}, sets)

    def _elements(self, verb, name, text, line):
        for element in text.split(", "):
            key = element.split(" comment ")[0].split(" : ")[0]
            if verb == "delete":
                del self.sets[name][key]
            else:
                assert key not in self.sets[name], f"EEXIST: {line}"
                self.sets[name][key] = element

    def _is_referenced(self, name):
        texts = [rule for rules in self.chains.values() for rule in rules]
        texts += [element for elements in self.sets.values() for element in elements.values()]
        return any(name in re.split(r"[ ,]", text) for text in texts)


def state_of(ruleset: Ruleset):
    chains = {name: list(chain.rules) for name, chain in ruleset.chains.items()}
    return chains, {name: {k: item.render_element(k) for k in item.elements} for name, item in ruleset.sets.items()}
