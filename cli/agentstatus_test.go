package cli

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

func TestStatusChanges(t *testing.T) {
	base := api.AgentStatus{State: api.AgentRunning, Reach: wire.Reach{NAT: "easy", Relay: "here"}, Peers: []api.AgentPeer{
		{ID: "aaaaa", Name: "web", Route: "direct", Via: "192.0.2.7:4000", Received: 1},
	}}
	with := func(edit func(*api.AgentStatus)) api.AgentStatus {
		s := base
		s.Peers = append([]api.AgentPeer(nil), base.Peers...)
		edit(&s)
		return s
	}
	for _, tt := range []struct {
		name string
		is   api.AgentStatus
		want []string
	}{
		{"counters", with(func(s *api.AgentStatus) { s.Peers[0].Received = 9 }), nil},
		{"offline", with(func(s *api.AgentStatus) { s.State = api.AgentOffline }), []string{"offline, was running"}},
		{"network", with(func(s *api.AgentStatus) { s.Reach = wire.Reach{NAT: "blocked"} }),
			[]string{"the NAT here is blocked, was easy", "the home relay is -, was here"}},
		{"route", with(func(s *api.AgentStatus) {
			s.Peers[0] = api.AgentPeer{ID: "aaaaa", Name: "web", Route: "relay", Via: "here", WhyNotDirect: "lost", Why: "it fell silent"}
		}), []string{"web: relay here (it fell silent), was direct 192.0.2.7:4000"}},
		{"peers", with(func(s *api.AgentStatus) {
			s.Peers = []api.AgentPeer{{ID: "bbbbb", Name: "db\x1b[31m", Route: "none"}}
		}), []string{"db\uFFFD[31m is introduced: none", "web is introduced no more"}},
	} {
		if got := statusChanges(&base, &tt.is); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	relayed := with(func(s *api.AgentStatus) { s.Peers[0].Route, s.Peers[0].WhyNotDirect = "relay", "probing" })
	settled := with(func(s *api.AgentStatus) {
		s.Peers[0].Route, s.Peers[0].WhyNotDirect, s.Peers[0].Why = "relay", "hard-nat", "both map by destination"
	})
	if got := statusChanges(&relayed, &settled); len(got) != 1 || !strings.HasSuffix(got[0], "(both map by destination)") {
		t.Errorf("a reason that changed: %q", got)
	}
}

func TestStatusSaysWhy(t *testing.T) {
	var b strings.Builder
	since := time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)
	statusText(&b, &api.AgentStatus{State: api.AgentRunning, Peers: []api.AgentPeer{
		{ID: "aaaaa", Name: "web", IPv4: netip.MustParseAddr("100.64.0.2"), Route: "relay", Via: "here", Since: since, Was: "192.0.2.7:4000",
			WhyNotDirect: "lost", Why: "the direct path fell silent; looking for another"},
	}})
	for _, want := range []string{"web   aaaaa  100.64.0.2  relay  here  -    2026-03-29T12:00:00Z  192.0.2.7:4000  -",
		"web is not direct: the direct path fell silent; looking for another (lost)"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("status lacks %q:\n%s", want, b.String())
		}
	}
}

func TestPingVerdicts(t *testing.T) {
	direct := api.PingResult{Route: "direct", RTT: 2 * time.Millisecond}
	relayed := api.PingResult{Route: "relay", RTT: 40 * time.Millisecond, Why: "both map by destination"}
	for _, tt := range []struct {
		name        string
		answers     []api.PingResult
		lost        int
		untilDirect bool
		line        string
		code        string
	}{
		{"all", []api.PingResult{direct, relayed}, 0, false, "2 probes, 2 answered, min/avg/max 2ms/21ms/40ms", ""},
		{"some", []api.PingResult{direct}, 2, false, "3 probes, 1 answered, min/avg/max 2ms/2ms/2ms", ""},
		{"none", nil, 2, false, "2 probes, none answered", "timeout"},
		{"none, until direct", nil, 1, true, "1 probe, none answered", "timeout"},
		{"until direct", []api.PingResult{relayed, direct}, 0, true, "2 probes, 2 answered, min/avg/max 2ms/21ms/40ms", ""},
		{"never direct", []api.PingResult{relayed, relayed}, 0, true, "2 probes, 2 answered, min/avg/max 40ms/40ms/40ms", "not_direct"},
		{"interrupted at once", nil, 0, true, "0 probes, none answered", ""},
	} {
		var tally pingTally
		for _, r := range tt.answers {
			tally.answered(r)
		}
		for range tt.lost {
			tally.lost()
		}
		if got := tally.line(); got != tt.line {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.line)
		}
		err := tally.verdict("web", &pingFlags{untilDirect: tt.untilDirect, timeout: time.Second})
		var f *failure
		if code := ""; errors.As(err, &f) {
			if code = f.Code; code != tt.code || f.exit != exitTryAgain {
				t.Errorf("%s: code %q exit %d, want %q", tt.name, code, f.exit, tt.code)
			}
		} else if tt.code != "" {
			t.Errorf("%s: no failure, want %q", tt.name, tt.code)
		}
	}
}
