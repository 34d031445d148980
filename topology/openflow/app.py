"""The os-ken application of the controller: OpenFlow 1.3 messages in, `learning` decisions, OpenFlow messages out.

os-ken gives each application one event thread, so its tables need no lock.

Flows: table-miss (priority 0) to the controller; one flow per (in_port, source, destination) at priority 10, gone after
60 idle seconds. Sources: OpenFlow Switch Specification 1.3.5; os-ken's documentation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib.packet import arp, ethernet, packet
from os_ken.ofproto import ofproto_v1_3

from podnet.topology.openflow.learning import Answer, Drop, Flood, Forward, Frame, SwitchTable

PRIORITY = 10
IDLE_TIMEOUT_S = 60
_LLDP = 0x88CC


class LearningSwitch(app_manager.OSKenApp):  # type: ignore[misc]  # os-ken has no types
    """A learning switch for any number of datapaths."""

    OFP_VERSIONS: ClassVar[list[int]] = [ofproto_v1_3.OFP_VERSION]
    hosts: ClassVar[dict[str, str]] = {}
    trunks: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tables: dict[int, SwitchTable] = {}

    @classmethod
    def read_hosts(cls, file: Path) -> None:
        """Take over what the underlay knows: `hosts`, address to MAC, and `trunks`, the ports that lead to switches."""
        known = json.loads(file.read_text())
        cls.hosts, cls.trunks = known["hosts"], frozenset(known["trunks"])

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]  # os-ken has no types
    def on_features(self, event: Any) -> None:
        """A switch connected: start from nothing, and have it send what no flow matches."""
        datapath = event.msg.datapath
        ofproto, parser = datapath.ofproto, datapath.ofproto_parser
        self.tables[datapath.id] = SwitchTable()
        _delete_flows(datapath)
        to_controller = [parser.OFPActionOutput(ofproto.OFPP_CONTROLLER, ofproto.OFPCML_NO_BUFFER)]
        _add_flow(datapath, 0, parser.OFPMatch(), to_controller, 0)
        datapath.send_msg(parser.OFPPortDescStatsRequest(datapath, 0))

    @set_ev_cls(ofp_event.EventOFPPortDescStatsReply, [CONFIG_DISPATCHER, MAIN_DISPATCHER])  # type: ignore[untyped-decorator]  # os-ken has no types
    def on_ports(self, event: Any) -> None:
        """The ports a switch had when it connected."""
        for port in event.msg.body:
            self._note_trunk(event.msg.datapath, port)

    @set_ev_cls(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]  # os-ken has no types
    def on_port_status(self, event: Any) -> None:
        """A port went away or lost its carrier: nobody is behind it any more."""
        datapath, desc = event.msg.datapath, event.msg.desc
        ofproto, parser = datapath.ofproto, datapath.ofproto_parser
        self._note_trunk(datapath, desc)
        # Neither deletion meets the table-miss flow: it goes to the controller and names no in_port.
        gone = event.msg.reason == ofproto.OFPPR_DELETE or desc.state & ofproto.OFPPS_LINK_DOWN
        if gone:
            self._table(datapath).forget_port(desc.port_no)
            _delete_flows(datapath, out_port=desc.port_no)
            _delete_flows(datapath, match=parser.OFPMatch(in_port=desc.port_no))

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]  # os-ken has no types
    def on_packet_in(self, event: Any) -> None:
        """A frame that no flow matched."""
        message = event.msg
        datapath, in_port = message.datapath, message.match["in_port"]
        parsed = packet.Packet(message.data)
        frame = _frame(parsed, in_port)
        if frame is None:
            return
        table = self._table(datapath)
        parser = datapath.ofproto_parser
        if table.learn(frame.source, in_port):
            _delete_flows(datapath, match=parser.OFPMatch(eth_dst=frame.source))
        match table.decide(frame, self.hosts):
            case Answer(port, mac):
                _send(datapath, _arp_reply(parsed, mac), datapath.ofproto.OFPP_CONTROLLER, port)
            case Forward(port):
                matched = parser.OFPMatch(in_port=in_port, eth_src=frame.source, eth_dst=frame.destination)
                _add_flow(datapath, PRIORITY, matched, [parser.OFPActionOutput(port)], IDLE_TIMEOUT_S)
                _send(datapath, message.data, in_port, port)
            case Flood():
                _send(datapath, message.data, in_port, datapath.ofproto.OFPP_FLOOD)
            case Drop():
                return

    def _note_trunk(self, datapath: Any, port: Any) -> None:
        trunks = self._table(datapath).trunks
        if port.name.decode(errors="replace").rstrip("\0") in self.trunks:
            trunks.add(port.port_no)
        else:
            trunks.discard(port.port_no)

    def _table(self, datapath: Any) -> SwitchTable:
        return self.tables.setdefault(datapath.id, SwitchTable())


def _frame(parsed: Any, in_port: int) -> Frame | None:
    header = parsed.get_protocol(ethernet.ethernet)
    if header is None or header.ethertype == _LLDP:
        return None
    request = parsed.get_protocol(arp.arp)
    if request is not None and request.opcode == arp.ARP_REQUEST:
        return Frame(in_port, header.src, header.dst, request.dst_ip, request.src_ip)
    return Frame(in_port, header.src, header.dst)


def _arp_reply(parsed: Any, mac: str) -> bytes:
    request = parsed.get_protocol(arp.arp)
    reply = packet.Packet()
    reply.add_protocol(ethernet.ethernet(dst=request.src_mac, src=mac, ethertype=0x0806))
    reply.add_protocol(
        arp.arp(
            opcode=arp.ARP_REPLY,
            src_mac=mac,
            src_ip=request.dst_ip,
            dst_mac=request.src_mac,
            dst_ip=request.src_ip,
        )
    )
    reply.serialize()
    return bytes(reply.data)


def _add_flow(datapath: Any, priority: int, match: Any, actions: list[Any], idle_timeout_s: int) -> None:
    parser = datapath.ofproto_parser
    apply_actions = parser.OFPInstructionActions(datapath.ofproto.OFPIT_APPLY_ACTIONS, actions)
    datapath.send_msg(
        parser.OFPFlowMod(
            datapath=datapath,
            priority=priority,
            match=match,
            instructions=[apply_actions],
            idle_timeout=idle_timeout_s,
        )
    )


def _delete_flows(datapath: Any, match: Any = None, out_port: int | None = None) -> None:
    ofproto, parser = datapath.ofproto, datapath.ofproto_parser
    datapath.send_msg(
        parser.OFPFlowMod(
            datapath=datapath,
            command=ofproto.OFPFC_DELETE,
            out_port=ofproto.OFPP_ANY if out_port is None else out_port,
            out_group=ofproto.OFPG_ANY,
            match=match if match is not None else parser.OFPMatch(),
        )
    )


def _send(datapath: Any, data: bytes, in_port: int, out_port: int) -> None:
    parser = datapath.ofproto_parser
    datapath.send_msg(
        parser.OFPPacketOut(
            datapath=datapath,
            buffer_id=datapath.ofproto.OFP_NO_BUFFER,
            in_port=in_port,
            actions=[parser.OFPActionOutput(out_port)],
            data=data,
        )
    )
