package cli

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enclave/agent/netcheck"
	"enclave/wire"
)

var updateNetcheck = flag.Bool("update-netcheck", false, "rewrite testdata/netcheck")

// TestNetcheckText is what an operator reads on the networks there are.
func TestNetcheckText(t *testing.T) {
	lan, relay := netip.MustParseAddr("192.168.1.5"), func(n string) netip.AddrPort { return netip.MustParseAddrPort(n) }
	asked := func(mapping netcheck.Mapping, hairpin netcheck.Hairpin, seen ...string) *netcheck.Report {
		r := &netcheck.Report{Local: []netip.Addr{lan}, Mapping: mapping, Hairpin: hairpin, Portal: netcheck.PortalReport{State: netcheck.PortalNone}}
		x := netcheck.RelayReport{ID: "fra1", Addr: "192.0.2.7:443", TLS: netcheck.TLSReport{State: netcheck.TLSVerified, RTT: 12 * time.Millisecond}}
		for i, server := range []string{"192.0.2.7:3478", "192.0.2.8:3479"} {
			s := netcheck.STUNReport{Server: server, At: relay(server)}
			if r.IPv4.Asked++; i < len(seen) {
				r.IPv4.Answered++
				s.Observed, s.RTT = relay(seen[i]), 11*time.Millisecond
				r.IPv4.Observed = s.Observed
			}
			x.STUN = append(x.STUN, s)
		}
		r.Relays = []netcheck.RelayReport{x}
		return r
	}
	with := func(r *netcheck.Report, edit func(*netcheck.Report)) *netcheck.Report { edit(r); return r }
	shut := func(r *netcheck.Report) {
		r.Relays[0].TLS = netcheck.TLSReport{State: netcheck.TLSBlocked, Error: "i/o timeout"}
	}
	for name, r := range map[string]*netcheck.Report{
		"good": with(asked(netcheck.MapIndependent, netcheck.HairpinYes, "198.51.100.9:41641", "198.51.100.9:41641"), func(r *netcheck.Report) {
			r.Local = append(r.Local, netip.MustParseAddr("2001:db8::5"))
			r.IPv6 = netcheck.Family{Asked: 1, Answered: 1, Observed: relay("[2001:db8::5]:41641")}
			r.Agent = &wire.Reach{NAT: "easy", Relay: "fra1"}
		}),
		"no-nat":      asked(netcheck.MapNone, netcheck.HairpinNoNeed, "192.168.1.5:5000", "192.168.1.5:5000"),
		"one-server":  asked(netcheck.MapUnknown, netcheck.HairpinNo, "198.51.100.9:41641"),
		"symmetric":   asked(netcheck.MapByPort, netcheck.HairpinNo, "198.51.100.9:41641", "198.51.100.9:20112"),
		"udp-blocked": asked(netcheck.MapUnknown, netcheck.HairpinUnknown),
		"captive-portal": with(asked(netcheck.MapUnknown, netcheck.HairpinUnknown), func(r *netcheck.Report) {
			r.Relays[0].TLS = netcheck.TLSReport{State: netcheck.TLSIntercepted, RTT: time.Millisecond, Issuer: `"CN=hotel\x1b[31m gateway"`}
			r.Portal = netcheck.PortalReport{URL: "http://192.0.2.7/", State: netcheck.PortalFound, Detail: "sends to login.hotel.example"}
		}),
		"proxy-only": with(asked(netcheck.MapUnknown, netcheck.HairpinUnknown), func(r *netcheck.Report) {
			r.Relays[0].TLS = netcheck.TLSReport{State: netcheck.TLSVerified, Via: "http://proxy.example:3128"}
			r.Proxy = netcheck.ProxyReport{URL: "http://proxy.example:3128", Works: true}
		}),
		"inspected": with(asked(netcheck.MapUnknown, netcheck.HairpinUnknown), func(r *netcheck.Report) {
			r.Relays[0].TLS = netcheck.TLSReport{State: netcheck.TLSIntercepted, RTT: time.Millisecond, Issuer: `"CN=Inspection CA"`}
		}),
		"nothing": with(asked(netcheck.MapUnknown, netcheck.HairpinUnknown), shut),
		"proxy-refuses": with(asked(netcheck.MapUnknown, netcheck.HairpinUnknown), func(r *netcheck.Report) {
			shut(r)
			r.Proxy = netcheck.ProxyReport{URL: "http://proxy.example:3128", Error: "the proxy refuses: 403 Forbidden"}
			r.Notes = []string{"list addresses: not permitted"}
		}),
	} {
		var b strings.Builder
		netcheckText(&b, &netcheckResult{r.Summary(), r.Findings(), r})
		file := filepath.Join("testdata", "netcheck", name+".txt")
		if *updateNetcheck {
			if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || b.String() != string(want) {
			t.Errorf("%s (%v):\n%s", name, err, b.String())
		}
	}
}

func TestNetcheckTargets(t *testing.T) {
	s := newShell(t)
	for _, args := range [][]string{
		{"netcheck"},
		{"netcheck", "--relay", "nowhere"},
		{"netcheck", "--stun", "nowhere"},
		{"netcheck", "--control", "http://127.0.0.1:1"},
		{"netcheck", "extra"},
	} {
		if f := s.refused(exitUsage, args...); f.Hint == "" && len(args) == 1 {
			t.Errorf("%v: no hint", args)
		}
	}
	f := netcheckFlags{control: "https://192.0.2.7"}
	list, err := f.targets()
	if err != nil || len(list) != 1 || list[0].Addr != "192.0.2.7:443" || len(list[0].STUN) != 1 || list[0].STUN[0] != "192.0.2.7:3478" {
		t.Errorf("control alone: %+v, %v", list, err)
	}
	f = netcheckFlags{relays: []string{"a:1", "b:2"}, stun: []string{"c:3"}}
	if list, err = f.targets(); err != nil || len(list) != 2 || list[0].ID != "relay1" || len(list[0].STUN) != 1 || len(list[1].STUN) != 0 {
		t.Errorf("two relays: %+v, %v", list, err)
	}
	for in, want := range map[string]string{"": "", "http://u:secret@proxy:3128": "http://proxy:3128", "secret": "set"} {
		if got := redacted(in); got != want {
			t.Errorf("redacted %q: %q, want %q", in, got, want)
		}
	}
}
