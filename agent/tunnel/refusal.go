package tunnel

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// refusal answers a TCP segment that opens a flow as a closed port would: RST and ACK
// from its destination, acknowledging the SYN (RFC 9293 section 3.10.7.1). It returns
// nil for every other packet. Only packets of the local stack come here, and that
// stack puts no extension header before a SYN.
func refusal(pkt []byte) []byte {
	if len(pkt) == 0 {
		return nil
	}
	switch pkt[0] >> 4 {
	case 4:
		ip := header.IPv4(pkt)
		if !ip.IsValid(len(pkt)) || ip.Protocol() != uint8(header.TCPProtocolNumber) || ip.FragmentOffset() != 0 {
			return nil
		}
		b := make([]byte, header.IPv4MinimumSize+header.TCPMinimumSize)
		if !resetSegment(b[header.IPv4MinimumSize:], ip.Payload(), ip.DestinationAddress(), ip.SourceAddress()) {
			return nil
		}
		out := header.IPv4(b)
		out.Encode(&header.IPv4Fields{
			TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber),
			SrcAddr: ip.DestinationAddress(), DstAddr: ip.SourceAddress(),
		})
		out.SetChecksum(^out.CalculateChecksum())
		return b
	case 6:
		ip := header.IPv6(pkt)
		if !ip.IsValid(len(pkt)) || ip.NextHeader() != uint8(header.TCPProtocolNumber) {
			return nil
		}
		b := make([]byte, header.IPv6MinimumSize+header.TCPMinimumSize)
		if !resetSegment(b[header.IPv6MinimumSize:], ip.Payload(), ip.DestinationAddress(), ip.SourceAddress()) {
			return nil
		}
		header.IPv6(b).Encode(&header.IPv6Fields{
			PayloadLength: header.TCPMinimumSize, TransportProtocol: header.TCPProtocolNumber, HopLimit: 64,
			SrcAddr: ip.DestinationAddress(), DstAddr: ip.SourceAddress(),
		})
		return b
	}
	return nil
}

// resetSegment writes the answer to seg into b. It reports whether seg opens a flow.
func resetSegment(b, seg []byte, src, dst tcpip.Address) bool {
	if len(seg) < header.TCPMinimumSize {
		return false
	}
	in := header.TCP(seg)
	const opening = header.TCPFlagSyn | header.TCPFlagAck | header.TCPFlagRst
	if in.Flags()&opening != header.TCPFlagSyn {
		return false
	}
	out := header.TCP(b)
	out.Encode(&header.TCPFields{
		SrcPort: in.DestinationPort(), DstPort: in.SourcePort(),
		AckNum: in.SequenceNumber() + 1, DataOffset: header.TCPMinimumSize,
		Flags: header.TCPFlagRst | header.TCPFlagAck,
	})
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(b)))
	out.SetChecksum(^out.CalculateChecksum(checksum.Checksum(nil, sum)))
	return true
}
