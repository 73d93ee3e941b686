package tunnel

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// udpHopLimit is what the stack's own datagrams have.
const udpHopLimit = 64

// parseDatagram reads a packet that is one whole UDP datagram without IP options, and
// nothing else. The payload is part of pkt. Checksums are not looked at: the tunnel has
// authenticated every byte. What it does not take is for the stack to judge.
func parseDatagram(pkt []byte) (src, dst netip.AddrPort, payload []byte, ok bool) {
	var from, to netip.Addr
	var udp header.UDP
	switch {
	case len(pkt) >= header.IPv4MinimumSize+header.UDPMinimumSize && pkt[0] == 0x45:
		if pkt[9] != uint8(header.UDPProtocolNumber) || pkt[6]&^0x40 != 0 || pkt[7] != 0 || // a fragment, or the reserved bit
			int(binary.BigEndian.Uint16(pkt[2:])) != len(pkt) {
			return src, dst, nil, false
		}
		from, to = netip.AddrFrom4([4]byte(pkt[12:16])), netip.AddrFrom4([4]byte(pkt[16:20]))
		udp = pkt[header.IPv4MinimumSize:]
	case len(pkt) >= header.IPv6MinimumSize+header.UDPMinimumSize && pkt[0]>>4 == 6:
		if pkt[6] != uint8(header.UDPProtocolNumber) || int(binary.BigEndian.Uint16(pkt[4:])) != len(pkt)-header.IPv6MinimumSize {
			return src, dst, nil, false
		}
		from, to = netip.AddrFrom16([16]byte(pkt[8:24])), netip.AddrFrom16([16]byte(pkt[24:40]))
		udp = pkt[header.IPv6MinimumSize:]
	default:
		return src, dst, nil, false
	}
	if int(udp.Length()) != len(udp) {
		return src, dst, nil, false
	}
	src, dst = netip.AddrPortFrom(from, udp.SourcePort()), netip.AddrPortFrom(to, udp.DestinationPort())
	return src, dst, udp[header.UDPMinimumSize:], true
}

// datagramSize is the size of a packet with so much payload to an address.
func datagramSize(to netip.Addr, payload int) int {
	if to.Is4() {
		return header.IPv4MinimumSize + header.UDPMinimumSize + payload
	}
	return header.IPv6MinimumSize + header.UDPMinimumSize + payload
}

// writeDatagram makes pkt, which has the size for it, a datagram. Both addresses are of
// one family.
func writeDatagram(pkt []byte, src, dst netip.AddrPort, id uint16, payload []byte) {
	udp := header.UDP(pkt[len(pkt)-len(payload)-header.UDPMinimumSize:])
	var addrs []byte
	if dst.Addr().Is4() {
		from, to := src.Addr().As4(), dst.Addr().As4()
		pkt[0], pkt[1], pkt[6], pkt[7] = 0x45, 0, 0, 0
		pkt[8], pkt[9] = udpHopLimit, uint8(header.UDPProtocolNumber)
		binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
		binary.BigEndian.PutUint16(pkt[4:], id)
		addrs = pkt[12:20]
		copy(addrs, from[:])
		copy(addrs[4:], to[:])
		ip := header.IPv4(pkt)
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
	} else {
		from, to := src.Addr().As16(), dst.Addr().As16()
		binary.BigEndian.PutUint32(pkt, 6<<28)
		binary.BigEndian.PutUint16(pkt[4:], uint16(len(udp)))
		pkt[6], pkt[7] = uint8(header.UDPProtocolNumber), udpHopLimit
		addrs = pkt[8:40]
		copy(addrs, from[:])
		copy(addrs[16:], to[:])
	}
	binary.BigEndian.PutUint16(udp, src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	copy(udp[header.UDPMinimumSize:], payload)
	udp.SetChecksum(0)
	tail := [4]byte{1: uint8(header.UDPProtocolNumber)}
	binary.BigEndian.PutUint16(tail[2:], uint16(len(udp)))
	sum := ^checksum.Checksum(udp, checksum.Checksum(tail[:], checksum.Checksum(addrs, 0)))
	if sum == 0 { // which would say that there is none (RFC 768)
		sum = 0xffff
	}
	udp.SetChecksum(sum)
}
