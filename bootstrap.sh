#!/bin/sh
# Sets podnet up on this machine: distribution packages, a Python that is new enough, a virtual environment in .venv.
# Idempotent and quiet when nothing is to be done. Prints exactly what is missing when it may not install it itself.
#   sh bootstrap.sh          what running podnet and its tests needs
set -eu
cd "$(dirname "$0")"

# program (or file) it provides : Debian/Ubuntu package.   "need" = podnet cannot run without, "test" = a test's oracle
NEED="mnexec:mininet ip:iproute2 nft:nftables iptables:iptables ping:iputils-ping curl:curl ethtool:ethtool tcpdump:tcpdump nc:netcat-openbsd ps:procps"
TEST="tshark:tshark iperf3:iperf3 dig:dnsutils dnsperf:dnsperf ovs-vswitchd:openvswitch-switch conntrack:conntrack tmux:tmux etcd:etcd-server etcdctl:etcd-client setpriv:util-linux /usr/lib/cni/bridge:containernetworking-plugins"
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf 'setup: %s\n' "$*" >&2; }

missing_packages() { # of a list of program:package, the packages whose program is not there
    for pair in $1; do
        program=${pair%%:*}; package=${pair##*:}
        case "$program" in
            /*) [ -e "$program" ] || printf '%s ' "$package" ;;
            *) command -v "$program" >/dev/null 2>&1 || printf '%s ' "$package" ;;
        esac
    done
}

apt_install() {
    if [ "$(id -u)" = 0 ]; then as_root=""
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root="sudo"
    else return 1
    fi
    command -v apt-get >/dev/null 2>&1 || return 1
    say "installing $*"
    log=$(mktemp)
    if ! { $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive \
           apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1; then
        tail -5 "$log" >&2; rm -f "$log"; return 1
    fi
    rm -f "$log"
}

# A lab's etcd runs in the lab: Debian's package also starts one for the machine, which nobody asked for.
stop_etcd_of_the_machine() {
    [ -d /run/systemd/system ] && $as_root systemctl disable --now --quiet etcd >/dev/null 2>&1 || true
}

install_system_packages() {
    command -v etcd >/dev/null 2>&1 && had_etcd=yes || had_etcd=""
    need=$(missing_packages "$NEED"); test=$(missing_packages "$TEST")
    [ -z "$need$test" ] && return 0
    # shellcheck disable=SC2086  # a list of words
    if apt_install $need $test; then
        [ -n "$had_etcd" ] || stop_etcd_of_the_machine
        return 0
    fi
    [ -z "$test" ] || say "some tests will say that they cannot run; to have them: sudo apt install $test"
    [ -z "$need" ] && return 0
    say "podnet needs programs that are not here. Install them, then run this again:"
    say "  sudo apt install $need"
    exit 1
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# A virtual environment of the system's Python is one that other users of this machine can run too.
make_environment() {
    for python in /usr/bin/python3 python3.13 python3.12 python3.11 python3; do
        command -v "$python" >/dev/null 2>&1 && new_enough "$python" || continue
        "$python" -m venv .venv >/dev/null 2>&1 && return 0
        rm -rf .venv
        apt_install python3-venv >/dev/null 2>&1 && "$python" -m venv .venv >/dev/null 2>&1 && return 0
        rm -rf .venv
    done
    make_environment_with_uv
}

# Where the system's Python is older than 3.11 (Ubuntu 20.04 and 22.04), uv fetches one. Needs the internet.
make_environment_with_uv() {
    say "no Python 3.11 or newer with venv here: fetching one with uv"
    uv=$(command -v uv || true)
    if [ -z "$uv" ]; then
        python3 -m pip install --quiet --user uv || { say "install Python 3.11 (or uv: https://docs.astral.sh/uv/)"; exit 1; }
        uv="$HOME/.local/bin/uv"
    fi
    "$uv" venv --quiet --python 3.12 --seed .venv
}

install_python_packages() {
    stamp=.venv/.podnet-stamp
    [ -e "$stamp" ] && [ "$stamp" -nt setup.py ] && return 0
    say "installing Python packages into .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev,sdn]' 2>&1 |
        grep -v '^WARNING: Location' >&2 || true
    .venv/bin/python -c 'import podnet, aiohttp, mininet' || { say "the Python packages did not install"; exit 1; }
    touch "$stamp"
}

install_system_packages
[ -x .venv/bin/python ] && new_enough .venv/bin/python || { rm -rf .venv; make_environment; }
install_python_packages
