package tunnel

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// The text comes from our own process; the parser must still not fall over it when an
// upgrade adds lines.
func FuzzParseStats(f *testing.F) {
	key := "public_key=a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1\n"
	f.Add("private_key=00\n" + key + "last_handshake_time_sec=1\nlast_handshake_time_nsec=5\nrx_bytes=7\ntx_bytes=9\nallowed_ip=100.64.0.1/32\n")
	f.Add("rx_bytes=7\n" + key + "rx_bytes=x\n=\npublic_key=zz\nrx_bytes=8\n")
	f.Fuzz(func(t *testing.T, text string) {
		if n := len(parseStats(text)); n > strings.Count(text, "public_key=") {
			t.Fatalf("%d peers", n)
		}
	})
}

func TestParseStats(t *testing.T) {
	key := "public_key=a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3e4f5a0b1\n"
	got := parseStats("rx_bytes=1\n" + key + "last_handshake_time_sec=3\nlast_handshake_time_nsec=5\nrx_bytes=7\ntx_bytes=9\nnews=1\npublic_key=short\nrx_bytes=8\n")
	if len(got) != 1 {
		t.Fatal(got)
	}
	for _, s := range got {
		if s.Rx != 7 || s.Tx != 9 || s.LastHandshake.UnixNano() != 3_000_000_005 {
			t.Fatalf("%+v", s)
		}
	}
}

// FuzzDatagram: what is taken for a datagram is one to gVisor too, and what is written
// is read back the same.
func FuzzDatagram(f *testing.F) {
	for _, at := range []string{"100.64.0.1:7", "[fd00::1]:65535"} {
		to := netip.MustParseAddrPort(at)
		pkt := make([]byte, datagramSize(to.Addr(), 3))
		writeDatagram(pkt, to, to, 9, []byte("abc"))
		f.Add(pkt)
		f.Add(pkt[:len(pkt)-1])
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		src, dst, payload, ok := parseDatagram(pkt)
		if !ok {
			return
		}
		var udp header.UDP
		if pkt[0]>>4 == 4 {
			ip := header.IPv4(pkt)
			if !ip.IsValid(len(pkt)) || ip.More() || ip.FragmentOffset() != 0 || ip.TransportProtocol() != header.UDPProtocolNumber || len(ip.Options()) > 0 {
				t.Fatalf("% x is no datagram", pkt)
			}
			udp = ip.Payload()
		} else {
			ip := header.IPv6(pkt)
			if !ip.IsValid(len(pkt)) || ip.TransportProtocol() != header.UDPProtocolNumber {
				t.Fatalf("% x is no datagram", pkt)
			}
			udp = ip.Payload()
		}
		if udp.SourcePort() != src.Port() || udp.DestinationPort() != dst.Port() || !bytes.Equal(udp.Payload(), payload) {
			t.Fatalf("% x: %s to %s, % x", pkt, src, dst, payload)
		}
		again := make([]byte, datagramSize(dst.Addr(), len(payload)))
		writeDatagram(again, src, dst, 0xffff, payload)
		if s, d, p, ok := parseDatagram(again); !ok || s != src || d != dst || !bytes.Equal(p, payload) {
			t.Fatalf("% x became % x", pkt, again)
		}
		checkSums(t, again)
	})
}

// checkSums asks gVisor.
func checkSums(t *testing.T, pkt []byte) {
	t.Helper()
	var ip header.Network = header.IPv6(pkt)
	if pkt[0]>>4 == 4 {
		ip = header.IPv4(pkt)
		if !header.IPv4(pkt).IsChecksumValid() {
			t.Fatalf("% x: IP checksum", pkt)
		}
	}
	udp := header.UDP(ip.Payload())
	if udp.Checksum() == 0 || !udp.IsChecksumValid(ip.SourceAddress(), ip.DestinationAddress(), checksum.Checksum(udp.Payload(), 0)) {
		t.Fatalf("% x: UDP checksum", pkt)
	}
}

// FuzzMailbox: a mailbox is a bounded list of datagrams.
func FuzzMailbox(f *testing.F) {
	f.Add([]byte{200, 200, 3, 1, 255, 255, 0, 0, 0})
	f.Add(bytes.Repeat([]byte{255, 254, 253, 1}, 400))
	f.Fuzz(func(t *testing.T, script []byte) {
		type mail struct {
			from netip.AddrPort
			b    []byte
		}
		m := mailbox{limit: udpBuffer}
		var model []mail
		bytesIn, buf := 0, make([]byte, 1<<16)
		for i, op := range script {
			if op%4 == 1 {
				n, from, ok := m.pop(buf)
				if ok != (len(model) > 0) {
					t.Fatalf("pop: %t with %d unread", ok, len(model))
				}
				if ok && (from != model[0].from || !bytes.Equal(buf[:n], model[0].b)) {
					t.Fatalf("pop: %d bytes from %s, want %d from %s", n, from, len(model[0].b), model[0].from)
				}
				if ok {
					bytesIn -= mailHead + n
					model = model[1:]
				}
				continue
			}
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, 64, op, byte(i)}), uint16(i))
			if op%2 == 0 {
				from = netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, op, 15: byte(i)}), uint16(i))
			}
			b := bytes.Repeat([]byte{byte(i)}, int(op)*257)
			fits := bytesIn+mailHead+len(b) <= udpBuffer
			if m.push(from, b) != fits {
				t.Fatalf("push of %d to %d bytes: want %t", len(b), bytesIn, fits)
			}
			if fits {
				bytesIn += mailHead + len(b)
				model = append(model, mail{from, b})
			}
		}
	})
}
