package netcheck

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"

	"tailscale.com/net/stun"

	"enclave/agent/link"
	"enclave/e2e/natlab"
	"enclave/relay"
)

// ground is a host of the simulated internet; these tests send no TCP.
type ground struct {
	link.Network
	host *natlab.Host
}

func (g ground) ListenUDP(port uint16) (link.PacketConn, error) { return g.host.ListenUDP(port) }
func (g ground) Addrs() ([]netip.Addr, error)                   { return g.host.Addrs(), nil }
func (g ground) LookupHost(_ context.Context, host string) ([]netip.Addr, error) {
	a, err := netip.ParseAddr(host)
	return []netip.Addr{a}, err
}

// TestNetworks stands on each kind of network and asks a relay with two addresses and
// two ports, as the relay in the field answers.
func TestNetworks(t *testing.T) {
	inside := func(edit func(*natlab.NATConfig)) natlab.NATConfig {
		c := natlab.Easy()
		edit(&c)
		return c
	}
	for _, tt := range []struct {
		name    string
		nat     natlab.NATConfig
		mapping Mapping
		hairpin Hairpin
	}{
		{"open", natlab.Open(), MapNone, HairpinNoNeed},
		{"firewall", natlab.Firewall(), MapNone, HairpinNoNeed},
		{"home", natlab.Easy(), MapIndependent, HairpinNo},
		{"full cone", natlab.FullCone(), MapIndependent, HairpinYes},
		{"home that hairpins", inside(func(c *natlab.NATConfig) { c.Hairpin = true }), MapIndependent, HairpinYes},
		{"carrier", natlab.CGNAT(), MapIndependent, HairpinYes},
		{"by address", inside(func(c *natlab.NATConfig) { c.Mapping = natlab.AddressDependent }), MapByAddress, HairpinNo},
		{"symmetric", natlab.Hard(), MapByPort, HairpinNo},
		{"blocked", natlab.UDPBlocked(), MapUnknown, HairpinUnknown},
		{"only 443", natlab.OnlyTCP443(), MapUnknown, HairpinUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lab := natlab.New(natlab.Config{Seed: 1}).Start()
				defer lab.Close()
				server := lab.Host("relay", lab.Internet(), natlab.Addresses(2))
				srv := relay.New(relay.Config{})
				ctx, cancel := context.WithCancel(t.Context())
				var names []string
				for _, addr := range server.Addrs()[:2] {
					for _, port := range []uint16{3478, 3479} {
						pc, err := server.ListenUDPAddrPort(netip.AddrPortFrom(addr, port))
						if err != nil {
							t.Fatal(err)
						}
						go srv.ServeSTUN(ctx, pc)
						names = append(names, net.JoinHostPort(addr.String(), strconv.Itoa(int(port))))
					}
				}
				host := lab.Host("laptop", lab.Behind(tt.nat))
				r, err := Run(ctx, Config{Network: ground{host: host}, Relays: []Target{{ID: "r1", STUN: names}}})
				cancel()
				if err != nil {
					t.Fatal(err)
				}
				if r.Mapping != tt.mapping || r.Hairpin != tt.hairpin {
					t.Errorf("mapping %s, hairpin %s; want %s, %s", r.Mapping, r.Hairpin, tt.mapping, tt.hairpin)
				}
				if want := tt.mapping != MapUnknown; r.UDP() != want || r.IPv4.Asked != 4 {
					t.Errorf("UDP %v, asked %d; want %v, 4", r.UDP(), r.IPv4.Asked, want)
				}
				synctest.Wait()
			})
		})
	}
}

// TestMappingOf is what can be said with fewer servers, and where they disagree.
func TestMappingOf(t *testing.T) {
	at := func(server, seen string) STUNReport {
		s := STUNReport{At: netip.MustParseAddrPort(server)}
		if seen != "" {
			s.Observed = netip.MustParseAddrPort(seen)
		}
		return s
	}
	local := []netip.Addr{netip.MustParseAddr("192.168.1.5"), netip.MustParseAddr("2001:db8::5")}
	for _, tt := range []struct {
		name    string
		answers []STUNReport
		want    Mapping
	}{
		{"nobody", nil, MapUnknown},
		{"no answer", []STUNReport{at("192.0.2.1:3478", "")}, MapUnknown},
		{"one", []STUNReport{at("192.0.2.1:3478", "198.51.100.9:7")}, MapUnknown},
		{"one twice", []STUNReport{at("192.0.2.1:3478", "198.51.100.9:7"), at("192.0.2.1:3478", "198.51.100.9:7")}, MapUnknown},
		{"one, and no NAT", []STUNReport{at("192.0.2.1:3478", "192.168.1.5:5000")}, MapNone},
		{"own address, other port", []STUNReport{at("192.0.2.1:3478", "192.168.1.5:5001")}, MapUnknown},
		{"two addresses", []STUNReport{at("192.0.2.1:3478", "198.51.100.9:7"), at("192.0.2.2:3478", "198.51.100.9:7")}, MapIndependent},
		{"two ports", []STUNReport{at("192.0.2.1:3478", "198.51.100.9:7"), at("192.0.2.1:3479", "198.51.100.9:7")}, MapNotByPort},
		{"two ports that differ", []STUNReport{at("192.0.2.1:3478", "198.51.100.9:7"), at("192.0.2.1:3479", "198.51.100.9:8")}, MapByPort},
		{"two addresses that differ", []STUNReport{at("192.0.2.1:3478", "198.51.100.9:7"), at("192.0.2.2:3478", "198.51.100.9:8")}, MapDependent},
		{"by address", []STUNReport{at("192.0.2.1:1", "198.51.100.9:7"), at("192.0.2.1:2", "198.51.100.9:7"), at("192.0.2.2:1", "198.51.100.9:8")}, MapByAddress},
		{"another outside address", []STUNReport{at("192.0.2.1:1", "198.51.100.9:7"), at("192.0.2.2:1", "198.51.100.8:7")}, MapDependent},
		{"IPv6 does not count beside IPv4", []STUNReport{at("[2001:db8::1]:1", "[2001:db8::5]:5000"), at("192.0.2.1:1", "198.51.100.9:7")}, MapUnknown},
		{"IPv6 alone", []STUNReport{at("[2001:db8::1]:1", "[2001:db8::5]:5000"), at("192.0.2.1:1", "")}, MapNone},
	} {
		if got, _ := MappingOf(tt.answers, local, 5000); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// FuzzHear: what arrives on the socket is anybody's. Only an answer to a question, from
// whom it was asked of, is taken, and once.
func FuzzHear(f *testing.F) {
	tx, from := stun.TxID{1, 2, 3}, netip.MustParseAddrPort("192.0.2.1:3478")
	f.Add(stun.Response(tx, netip.MustParseAddrPort("198.51.100.9:7")), true)
	f.Add(stun.Response(tx, netip.MustParseAddrPort("[2001:db8::9]:7")), false)
	f.Add(stun.Request(tx), true)
	f.Add([]byte{1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, true)
	f.Fuzz(func(t *testing.T, b []byte, right bool) {
		p := &probe{waiting: map[stun.TxID]question{tx: {server: 0, to: from}}, answers: map[int]STUNReport{}, changed: make(chan struct{}, 1)}
		source := from
		if !right {
			source = netip.AddrPortFrom(from.Addr(), 1)
		}
		for range 2 {
			p.hear(b, source, testTime)
		}
		if len(p.answers) > 0 && !right {
			t.Error("an answer from elsewhere was taken")
		}
		if a, ok := p.answers[0]; ok && (!a.Observed.IsValid() || a.RTT <= 0) {
			t.Errorf("answer %+v", a)
		}
	})
}
