"""What the doctor says about what was seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from podnet.topology.doctor import Finding, Probes, report

ALL_PROGRAMS = {
    name: f"/usr/bin/{name}" for name in ("mnexec", "ip", "ethtool", "ping", "nft", "kubectl", "ovs-vswitchd", "etcd")
}
GOOD = Probes(
    python=(3, 11, 2),
    root=False,
    programs=ALL_PROGRAMS,
    kubectl=(1, 32),
    libnftables=True,
    packages=frozenset({"os_ken"}),
    kernel="Linux 6.18",
)


def row(probes: Probes, name: str) -> Finding:
    (found,) = [finding for finding in report(probes) if finding.name == name]
    return found


def test_a_good_machine_is_all_ok_and_says_nothing_to_do() -> None:
    findings = report(GOOD)
    assert {finding.status for finding in findings} == {"ok"}
    assert all(not finding.fix and not finding.consequence for finding in findings)
    assert len({finding.name for finding in findings}) == len(findings)


def test_every_shortcoming_has_a_consequence_and_a_one_line_fix() -> None:
    features = [
        "bridge",
        "veth",
        "vxlan",
        "br_netfilter",
        "nft_nat",
        "nft_numgen",
        "overlayfs",
        "tbf",
        "netem",
        "openvswitch",
    ]
    bad = Probes(
        (3, 8, 10), root=False, failed=dict.fromkeys(features, "no"), userns_error="refused", limits_problem="no"
    )
    findings = report(bad)
    lacking = [finding for finding in findings if finding.status != "ok"]
    assert len(lacking) == len(findings) - 1  # namespaces themselves work
    assert all(finding.consequence and finding.fix and "\n" not in finding.fix for finding in lacking)


@pytest.mark.parametrize(
    ("sysctls", "fix"),
    [
        ({"kernel.apparmor_restrict_unprivileged_userns": "1"}, "kernel.apparmor_restrict_unprivileged_userns=0"),
        ({"kernel.unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone=1"),
        ({"user.max_user_namespaces": "0"}, "user.max_user_namespaces=15000"),
        ({"user.max_net_namespaces": "0"}, "user.max_net_namespaces=15000"),
        ({"kernel.apparmor_restrict_unprivileged_userns": "0"}, "CONFIG_USER_NS"),
    ],
    ids=["ubuntu-apparmor", "debian-clone", "max-user", "max-net", "unknown"],
)
def test_what_distributions_do_to_user_namespaces_is_undone_by_name(sysctls: dict[str, str], fix: str) -> None:
    found = row(replace(GOOD, sysctls=sysctls, userns_error="refused: Permission denied"), "user namespaces")
    assert found.status == "missing"
    assert fix in found.fix


def test_without_user_namespaces_root_still_has_its_cluster() -> None:
    assert row(replace(GOOD, root=True, userns_error="refused"), "user namespaces").status == "warn"


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"kubectl": (1, 26)}, "warn", "1.27 or newer"),
        ({"kubectl": (1, 27)}, "ok", ""),
        ({"kubectl": (2, 0)}, "ok", ""),
        ({"kubectl": None}, "warn", "own small client"),
        ({"programs": {}}, "warn", "own small client"),
    ],
    ids=["old", "oldest-good", "future", "silent", "absent"],
)
def test_kubectl(change: dict[str, object], status: str, words: str) -> None:
    found = row(replace(GOOD, **change), "kubectl")  # type: ignore[arg-type]
    assert found.status == status
    assert words in found.consequence


def test_nft_program_alone_is_a_slower_way() -> None:
    assert row(replace(GOOD, libnftables=False), "nftables").status == "warn"
    assert row(replace(GOOD, libnftables=False, programs={}), "nftables").status == "missing"


def test_features_that_could_not_be_tried_are_not_called_missing() -> None:
    why = "Operation not permitted"
    failed = dict.fromkeys(["netns", "bridge", "vxlan", "netem"], why)
    probes = replace(GOOD, failed=failed)
    assert row(probes, "kernel: namespaces").status == "missing"
    assert row(probes, "kernel: vxlan").status == "warn"
    assert "not tried" in row(probes, "kernel: vxlan").found


def test_rows_go_into_json() -> None:
    assert Finding("a", "warn", "b", "c", "d").to_dict() == {
        "name": "a",
        "status": "warn",
        "found": "b",
        "consequence": "c",
        "fix": "d",
    }
