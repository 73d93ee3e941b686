package tunnel

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// tcpFlow is a TCP connection as one end sees it.
type tcpFlow struct{ local, remote netip.AddrPort }

func (f tcpFlow) reverse() tcpFlow { return tcpFlow{f.remote, f.local} }

// transport finds what an IP packet carries. A later fragment, and IPv6 with extension
// headers, are reported as what they are: nothing that a stack of ours would send.
func transport(pkt []byte) (proto uint8, src, dst netip.Addr, payload []byte, ok bool) {
	switch {
	case len(pkt) >= header.IPv4MinimumSize && pkt[0]>>4 == 4:
		ip := header.IPv4(pkt)
		head, total := int(ip.HeaderLength()), int(ip.TotalLength())
		if head < header.IPv4MinimumSize || total < head || total > len(pkt) || ip.FragmentOffset() != 0 {
			return 0, src, dst, nil, false
		}
		return ip.Protocol(), netip.AddrFrom4([4]byte(pkt[12:16])), netip.AddrFrom4([4]byte(pkt[16:20])), pkt[head:total], true
	case len(pkt) >= header.IPv6MinimumSize && pkt[0]>>4 == 6:
		total := header.IPv6MinimumSize + int(header.IPv6(pkt).PayloadLength())
		if total > len(pkt) {
			return 0, src, dst, nil, false
		}
		return pkt[6], netip.AddrFrom16([16]byte(pkt[8:24])), netip.AddrFrom16([16]byte(pkt[24:40])), pkt[header.IPv6MinimumSize:total], true
	}
	return 0, src, dst, nil, false
}

// ports reads the first four bytes of TCP and UDP.
func ports(b []byte) (src, dst uint16) {
	return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
}

// parseTCP reads a TCP segment; local is its sender.
func parseTCP(pkt []byte) (tcpFlow, header.TCP, bool) {
	proto, src, dst, b, ok := transport(pkt)
	if !ok || proto != uint8(header.TCPProtocolNumber) || len(b) < header.TCPMinimumSize {
		return tcpFlow{}, nil, false
	}
	sport, dport := ports(b)
	return tcpFlow{netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)}, header.TCP(b), true
}

// quotedUDP returns who had sent the datagram that an ICMP error is about.
func quotedUDP(pkt []byte) (sender netip.AddrPort, ok bool) {
	proto, _, _, b, ok := transport(pkt)
	switch {
	case !ok || len(b) < header.ICMPv4MinimumSize:
		return sender, false
	case proto == uint8(header.ICMPv4ProtocolNumber) && b[0] == byte(header.ICMPv4DstUnreachable):
	case proto == uint8(header.ICMPv6ProtocolNumber) && b[0] == byte(header.ICMPv6DstUnreachable):
	default:
		return sender, false
	}
	quote := b[8:]
	// A quote is cut short, while its header still tells the whole length.
	var src netip.Addr
	switch {
	case len(quote) >= header.IPv4MinimumSize+4 && quote[0]>>4 == 4 && quote[9] == uint8(header.UDPProtocolNumber):
		head := int(header.IPv4(quote).HeaderLength())
		if head < header.IPv4MinimumSize || len(quote) < head+4 {
			return sender, false
		}
		src, quote = netip.AddrFrom4([4]byte(quote[12:16])), quote[head:]
	case len(quote) >= header.IPv6MinimumSize+4 && quote[0]>>4 == 6 && quote[6] == uint8(header.UDPProtocolNumber):
		src, quote = netip.AddrFrom16([16]byte(quote[8:24])), quote[header.IPv6MinimumSize:]
	default:
		return sender, false
	}
	port, _ := ports(quote)
	return netip.AddrPortFrom(src, port), true
}

// appendTCP appends a segment of f.local without options to b.
func appendTCP(b []byte, f tcpFlow, seq, ack uint32, flags header.TCPFlags, data []byte) []byte {
	src, dst := tcpip.AddrFromSlice(f.local.Addr().AsSlice()), tcpip.AddrFromSlice(f.remote.Addr().AsSlice())
	head, size := header.IPv4MinimumSize, header.TCPMinimumSize+len(data)
	if f.local.Addr().Is6() {
		head = header.IPv6MinimumSize
	}
	start := len(b)
	b = append(b, make([]byte, head+header.TCPMinimumSize)...)
	b = append(b, data...)
	pkt := b[start:]
	if f.local.Addr().Is4() {
		ip := header.IPv4(pkt)
		ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(pkt)), Flags: header.IPv4FlagDontFragment,
			TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: src, DstAddr: dst})
		ip.SetChecksum(^ip.CalculateChecksum())
	} else {
		header.IPv6(pkt).Encode(&header.IPv6Fields{PayloadLength: uint16(size),
			TransportProtocol: header.TCPProtocolNumber, HopLimit: 64, SrcAddr: src, DstAddr: dst})
	}
	tcp := header.TCP(pkt[head:])
	tcp.Encode(&header.TCPFields{SrcPort: f.local.Port(), DstPort: f.remote.Port(),
		SeqNum: seq, AckNum: ack, DataOffset: header.TCPMinimumSize, Flags: flags})
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(size))
	tcp.SetChecksum(^tcp.CalculateChecksum(checksum.Checksum(data, sum)))
	return b
}
