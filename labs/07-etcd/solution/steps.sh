# One way, for a shell with PODNET_CLUSTER=lab-07. `podnet lab solve 07` does the same.
# Exercise 1: a member whose cable is out takes part in nothing.
podnet etcd ctl endpoint health
podnet link up cp-3 s1
# Exercise 2: a restore is for a stopped cluster; every member begins with the snapshot.
podnet down
podnet etcd restore "$(dirname "$(podnet kubeconfig)")/lab-07.db"
podnet up
