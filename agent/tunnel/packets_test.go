package tunnel

import (
	"encoding/hex"
	"net"
	"net/netip"

	"enclave/wire"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func hexKey(k wire.WireGuardKey) string { return hex.EncodeToString(k[:]) }

func addr(s string) tcpip.Address { return tcpip.AddrFromSlice(netip.MustParseAddr(s).AsSlice()) }

func udp4(src, dst string) []byte {
	b := make([]byte, header.IPv4MinimumSize+header.UDPMinimumSize)
	header.IPv4(b).Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber),
		SrcAddr: addr(src), DstAddr: addr(dst),
	})
	return b
}

func udp6(src, dst string) []byte {
	b := make([]byte, header.IPv6MinimumSize+header.UDPMinimumSize)
	header.IPv6(b).Encode(&header.IPv6Fields{
		PayloadLength: header.UDPMinimumSize, TransportProtocol: header.UDPProtocolNumber, HopLimit: 64,
		SrcAddr: addr(src), DstAddr: addr(dst),
	})
	return b
}

// tcp4 is a segment without payload.
func tcp4(src, dst netip.AddrPort, seq, ack uint32, flags header.TCPFlags) []byte {
	b := make([]byte, header.IPv4MinimumSize+header.TCPMinimumSize)
	s, d := addr(src.Addr().String()), addr(dst.Addr().String())
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: s, DstAddr: d,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	tcp := header.TCP(ip.Payload())
	tcp.Encode(&header.TCPFields{
		SrcPort: src.Port(), DstPort: dst.Port(), SeqNum: seq, AckNum: ack,
		DataOffset: header.TCPMinimumSize, Flags: flags,
	})
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, s, d, uint16(len(tcp)))
	tcp.SetChecksum(^tcp.CalculateChecksum(checksum.Checksum(nil, sum)))
	return b
}

func craftReset(src, dst any, seq, ack uint32) []byte {
	return tcp4(toAddrPort(src), toAddrPort(dst), seq, ack, header.TCPFlagRst|header.TCPFlagAck)
}

func toAddrPort(v any) netip.AddrPort {
	if a, ok := v.(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return v.(netip.AddrPort)
}
