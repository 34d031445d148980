"""OpenFlow switches: Open vSwitch with podnet's own os-ken controller. Optional (`pip install podnet[sdn]`)."""
