"""Addresses and node ports of Services: which are taken, which may be asked for, and the next free one.

    ranges     what may be given out, and its static and dynamic bands
    taken      what Services hold now
    families   ipFamilies, ipFamilyPolicy and clusterIPs agree before anything is allocated
    repair     what is to be done where Services and IPAddress objects disagree
    allocate   one Service gets what it needs, or the reasons why not

Pure: the Services that exist come in, causes of refusal or values come out.
"""

from podnet.controlplane.apiserver.allocation.allocate import allocate
from podnet.controlplane.apiserver.allocation.ranges import ServiceRanges
from podnet.controlplane.apiserver.allocation.taken import Taken, taken_by

__all__ = ["ServiceRanges", "Taken", "allocate", "taken_by"]
