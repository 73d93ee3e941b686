package control

import (
	"net/netip"
	"strings"
	"testing"

	"enclave/wire"
)

func TestReachCarriesNoZone(t *testing.T) {
	long := netip.AddrPortFrom(netip.MustParseAddr("fe80::1").WithZone(strings.Repeat("z", 100_000)), 1)
	if checkReach(&wire.Reach{Candidates: []wire.Candidate{{Kind: wire.HostCandidate, Addr: long}}}) == "" {
		t.Error("an address of 100 kB passes to every peer")
	}
	fine := netip.MustParseAddrPort("[2001:db8::1]:1")
	if bad := checkReach(&wire.Reach{Candidates: []wire.Candidate{{Kind: wire.HostCandidate, Addr: fine}}}); bad != "" {
		t.Error(bad)
	}
}

func TestReportedFlowsAreBounded(t *testing.T) {
	at := netip.MustParseAddrPort("100.64.0.1:80")
	fine := wire.ReportedFlow{Flow: wire.Flow{Proto: wire.TCP, Src: at, Dst: at}, Peer: "abcde"}
	if bad := checkFlow(&fine); bad != "" {
		t.Fatal(bad)
	}
	for name, spoil := range map[string]func(*wire.ReportedFlow){
		"no protocol":      func(f *wire.ReportedFlow) { f.Proto = 0 },
		"unknown protocol": func(f *wire.ReportedFlow) { f.Proto = wire.ICMP + 1 },
		"no source":        func(f *wire.ReportedFlow) { f.Src = netip.AddrPort{} },
		"no destination":   func(f *wire.ReportedFlow) { f.Dst = netip.AddrPort{} },
		"endless policy":   func(f *wire.ReportedFlow) { f.Policy = wire.PolicyID(strings.Repeat("p", 1000)) },
		"endless peer":     func(f *wire.ReportedFlow) { f.Peer = wire.SystemID(strings.Repeat("p", 1000)) },
	} {
		f := fine
		if spoil(&f); checkFlow(&f) == "" {
			t.Errorf("%s passes", name)
		}
	}
}
