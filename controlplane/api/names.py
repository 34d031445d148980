"""Validators of names, label keys and label values: each returns upstream's messages, none when the text is good.

Source: apimachinery pkg/util/validation, RFC 1123 (labels, subdomains), RFC 1035 (Service names).
"""

from __future__ import annotations

import re

_LABEL_1123 = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_1123 = _LABEL_1123 + r"(\." + _LABEL_1123 + ")*"
_LABEL_UNDERSCORE = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_UNDERSCORE = _LABEL_UNDERSCORE + r"(\." + _LABEL_UNDERSCORE + ")*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = "(" + _QUALIFIED + ")?"
_CONFIG_MAP_KEY = "[-._a-zA-Z0-9]+"
_ENV_NAME = "[-._a-zA-Z][-._a-zA-Z0-9]*"
_PORT_NAME_CHARS = "^[-a-z0-9]+$"

_COMPILED = {
    pattern: re.compile(pattern, re.ASCII)
    for pattern in (
        _LABEL_1123, _SUBDOMAIN_1123, _SUBDOMAIN_UNDERSCORE, _LABEL_1035, _QUALIFIED, _LABEL_VALUE, _CONFIG_MAP_KEY, _ENV_NAME,
    )
}  # fmt: skip


def _matches(pattern: str, value: str) -> bool:
    return _COMPILED[pattern].fullmatch(value) is not None


def max_length_error(length: int) -> str:
    """`must be no more than N characters`."""
    return f"must be no more than {length} characters"


def _regex_error(message: str, pattern: str, *examples: str) -> str:
    joined = " or ".join(f"'{example}', " for example in examples)
    return f"{message} (e.g. {joined}regex used for validation is '{pattern}')"


def dns1123_label(value: str) -> list[str]:
    """A namespace, a container or a port name's owner: `my-name`, at most 63 characters."""
    errors = [max_length_error(63)] if len(value) > 63 else []
    if not _matches(_LABEL_1123, value):
        if _matches(_SUBDOMAIN_1123, value):
            errors.append("must not contain dots")
        else:
            errors.append(
                _regex_error(
                    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
                    "and end with an alphanumeric character",
                    _LABEL_1123,
                    "my-name",
                    "123-abc",
                )
            )
    return errors


def search_domain(value: str) -> list[str]:
    """A domain of a resolver's search list: host names' rules, and underscores (`_sip._tcp.example.com`)."""
    errors = [max_length_error(253)] if len(value) > 253 else []
    if not _matches(_SUBDOMAIN_UNDERSCORE, value):
        text = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must "
            "start and end with an alphanumeric character"
        )
        errors.append(_regex_error(text, _SUBDOMAIN_UNDERSCORE, "example.com"))
    return errors


def dns1123_subdomain(value: str) -> list[str]:
    """Most object names: `example.com`, at most 253 characters."""
    errors = [max_length_error(253)] if len(value) > 253 else []
    if not _matches(_SUBDOMAIN_1123, value):
        errors.append(
            _regex_error(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
                "start and end with an alphanumeric character",
                _SUBDOMAIN_1123,
                "example.com",
            )
        )
    return errors


def dns1035_label(value: str) -> list[str]:
    """A Service name: like a label, but begins with a letter."""
    errors = [max_length_error(63)] if len(value) > 63 else []
    if not _matches(_LABEL_1035, value):
        errors.append(
            _regex_error(
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
                "character, and end with an alphanumeric character",
                _LABEL_1035,
                "my-name",
                "abc-123",
            )
        )
    return errors


def path_segment(value: str) -> list[str]:
    """RBAC names: anything that can stand in a URL path."""
    if value in {".", ".."}:
        return [f"may not be '{value}'"]
    return [f"may not contain '{char}'" for char in ("/", "%") if char in value]


def qualified_name(value: str) -> list[str]:
    """A label or annotation key: `[prefix/]name`."""
    errors: list[str] = []
    prefix, slash, name = value.rpartition("/")
    if slash:
        if "/" in prefix:
            return [
                "a qualified name "
                + _regex_error(
                    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
                    "alphanumeric character",
                    _QUALIFIED,
                    "MyName",
                    "my.name",
                    "123-abc",
                )
                + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ]
        if not prefix:
            errors.append("prefix part must be non-empty")
        else:
            errors += [f"prefix part {message}" for message in dns1123_subdomain(prefix)]
    if not name:
        errors.append("name part must be non-empty")
    elif len(name) > 63:
        errors.append("name part " + max_length_error(63))
    if not _matches(_QUALIFIED, name):
        errors.append(
            "name part "
            + _regex_error(
                "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
                "character",
                _QUALIFIED,
                "MyName",
                "my.name",
                "123-abc",
            )
        )
    return errors


def label_value(value: str) -> list[str]:
    """A label's value: empty, or at most 63 of `[A-Za-z0-9-_.]` that begin and end alphanumeric."""
    errors = [max_length_error(63)] if len(value) > 63 else []
    if not _matches(_LABEL_VALUE, value):
        errors.append(
            _regex_error(
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
                "start and end with an alphanumeric character",
                _LABEL_VALUE,
                "MyValue",
                "my_value",
                "12345",
            )
        )
    return errors


def config_map_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret: it becomes a file name."""
    errors = [max_length_error(253)] if len(value) > 253 else []
    if not _matches(_CONFIG_MAP_KEY, value):
        errors.append(
            _regex_error(
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                _CONFIG_MAP_KEY,
                "key.name",
                "KEY_NAME",
                "key-name",
            )
        )
    elif value == ".":
        errors.append("must not be '.'")
    elif value == "..":
        errors.append("must not be '..'")
    elif value.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def env_var_name(value: str) -> list[str]:
    """The relaxed rule of 1.32: any printable ASCII without `=`."""
    if value and all(" " <= char <= "~" and char != "=" for char in value):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def port_name(value: str) -> list[str]:
    """An IANA service name: what a container port may be called."""
    errors: list[str] = []
    if len(value) > 15:
        errors.append(max_length_error(15))
    if re.fullmatch("[-a-z0-9]+", value, re.ASCII) is None:
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if re.search("[a-z]", value, re.ASCII) is None:
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value and (value[0] == "-" or value[-1] == "-"):
        errors.append("must not begin or end with a hyphen")
    return errors


def port_number(value: int) -> list[str]:
    """1 to 65535."""
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]
