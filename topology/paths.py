"""Where a cluster keeps its files: one value for the cluster, one for each node.

Nodes share a file system, so everything a node would keep under /etc/cni, /var/lib/kubelet or /run has a directory of
its own here. Sockets and namespace pins live under /run, which is a private tmpfs in the room: their paths stay
shorter than the 108 bytes of sun_path wherever the state directory is.

    $XDG_STATE_HOME/podnet/<cluster>/        cluster.yaml kubeconfig pki/ store/ logs/ nodes/<node>/
    /run/podnet/nodes/<node>/                (in the room) sockets, netns pins, locks
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOM_RUN_DIR = Path("/run/podnet")


@dataclass(frozen=True, slots=True)
class NodePaths:
    """The directories of one node. `state` survives a node's crash, `run` does not survive the room."""

    state: Path
    run: Path

    @property
    def cni_conf_dir(self) -> Path:
        """As /etc/cni/net.d: the *.conflist files."""
        return self.state / "cni" / "net.d"

    @property
    def cni_bin_dir(self) -> Path:
        """As /opt/cni/bin: the plugins."""
        return self.state / "cni" / "bin"

    @property
    def cni_state_dir(self) -> Path:
        """As /var/lib/cni: IPAM leases, cached results."""
        return self.state / "cni" / "state"

    @property
    def cni_socket(self) -> Path:
        """The CNI daemon's socket."""
        return self.run / "cni.sock"

    @property
    def subnet_env(self) -> Path:
        """As /run/flannel/subnet.env: the overlay writes it, the CNI plugin reads it (FLANNEL_NETWORK, FLANNEL_SUBNET,
        FLANNEL_MTU, FLANNEL_IPMASQ lines)."""
        return self.run / "subnet.env"

    @property
    def pods_dir(self) -> Path:
        """As /var/lib/kubelet/pods: volumes, /etc/hosts files; one directory a pod UID."""
        return self.state / "pods"

    @property
    def manifests_dir(self) -> Path:
        """As /etc/kubernetes/manifests: static pods, one a file."""
        return self.state / "manifests"

    @property
    def volumes_dir(self) -> Path:
        """The data of PersistentVolumes that this node has made; one directory a volume."""
        return self.state / "volumes"

    @property
    def sandboxes_dir(self) -> Path:
        """The runtime's own state; one directory a sandbox ID."""
        return self.state / "sandboxes"

    @property
    def pod_logs_dir(self) -> Path:
        """As /var/log/pods: <ns>_<pod>_<uid>/<container>/<attempt>.log in CRI's log format."""
        return self.state / "logs" / "pods"

    @property
    def proxy_mode_file(self) -> Path:
        """The mode whose rules the proxy has in place; absent while it has none."""
        return self.state / "proxy-mode"

    @property
    def netns_dir(self) -> Path:
        """As /run/netns: pins of the pods' network namespaces."""
        return self.run / "netns"


@dataclass(frozen=True, slots=True)
class ClusterPaths:
    """The directories of one cluster."""

    state: Path
    run: Path = ROOM_RUN_DIR

    @property
    def spec_file(self) -> Path:
        """The cluster.yaml of what stands now, kept current while nodes come and go."""
        return self.state / "cluster.yaml"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, mode 0600."""
        return self.state / "kubeconfig"

    @property
    def pki_dir(self) -> Path:
        """Certificates and keys, mode 0700."""
        return self.state / "pki"

    @property
    def store_dir(self) -> Path:
        """The store's files."""
        return self.state / "store"

    @property
    def logs_dir(self) -> Path:
        """One log file a component."""
        return self.state / "logs"

    def node(self, name: str) -> NodePaths:
        """The directories of one node."""
        return NodePaths(self.state / "nodes" / name, self.run / "nodes" / name)
