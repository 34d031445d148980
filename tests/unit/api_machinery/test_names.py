"""Names, keys and values: who passes, and upstream's sentence for who does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from podnet.controlplane.api import names

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
DNS1035 = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end "
    "with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
NAME_PART = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (names.dns1123_label, ["a", "0", "a-b", "1-2", "a" * 63]),
        (names.search_domain, ["a.b", "_sip._tcp.a_b.c", "0"]),
        (names.dns1123_subdomain, ["a", "a.b", "a-b.c0", "0.0", "a" * 253]),
        (names.dns1035_label, ["a", "a-0", "a" * 63]),
        (names.label_value, ["", "a", "A_b.c-0", "0" * 63]),
        (names.qualified_name, ["a", "A.b_c", "example.com/name", "kubernetes.io/os", "x/" + "a" * 63]),
        (names.config_map_key, ["a", "A_b", ".dot", "game.properties", "-"]),
        (names.env_var_name, ["PATH", "a.b", "my-var", "1st", "with space"]),
        (names.port_name, ["http", "a1", "my-port", "x" * 15]),
        (names.path_segment, ["system:masters", "a b", "..."]),
        (names.port_number, [1, 80, 65535]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_good(check: Callable[[object], list[str]], good: list[object]) -> None:
    """No message."""
    for value in good:
        assert check(value) == [], value


@pytest.mark.parametrize(
    ("check", "value", "messages"),
    [
        (names.dns1123_label, "A", [LABEL]),
        (names.dns1123_label, "", [LABEL]),
        (names.dns1123_label, "a\n", [LABEL]),
        (names.dns1123_label, "a.b", ["must not contain dots"]),
        (names.dns1123_label, "a" * 64, ["must be no more than 63 characters"]),
        (names.dns1123_subdomain, "a_b", [SUBDOMAIN]),
        (names.dns1123_subdomain, "a..b", [SUBDOMAIN]),
        (names.dns1123_subdomain, "a" * 254, ["must be no more than 253 characters"]),
        (names.dns1035_label, "0a", [DNS1035]),
        (names.dns1035_label, "a-", [DNS1035]),
        (names.label_value, "-a", [LABEL_VALUE]),
        (names.label_value, "a b", [LABEL_VALUE]),
        (names.label_value, "a" * 64, ["must be no more than 63 characters"]),
        (names.qualified_name, "", ["name part must be non-empty", NAME_PART]),
        (names.qualified_name, "a/", ["name part must be non-empty", NAME_PART]),
        (names.qualified_name, "/a", ["prefix part must be non-empty"]),
        (names.qualified_name, "A_/a", ["prefix part " + SUBDOMAIN]),
        (names.qualified_name, "a" * 64, ["name part must be no more than 63 characters"]),
        (names.config_map_key, "..", ["must not be '..'"]),
        (names.config_map_key, "..a", ["must not start with '..'"]),
        (names.port_name, "1234", ["must contain at least one letter (a-z)"]),
        (names.port_name, "a--b", ["must not contain consecutive hyphens"]),
        (names.port_name, "-a", ["must not begin or end with a hyphen"]),
        (names.port_name, "x" * 16, ["must be no more than 15 characters"]),
        (names.path_segment, "a/b", ["may not contain '/'"]),
        (names.path_segment, "..", ["may not be '..'"]),
        (names.port_number, 0, ["must be between 1 and 65535, inclusive"]),
    ],
)
def test_bad(check: Callable[[object], list[str]], value: object, messages: list[str]) -> None:
    """Exactly upstream's messages."""
    assert check(value) == messages


def test_a_name_with_two_slashes() -> None:
    """The whole name is described."""
    [message] = names.qualified_name("a/b/c")
    assert message.startswith("a qualified name must consist of alphanumeric characters")
    assert message.endswith("with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")
