package cli

import (
	"strings"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/api"
)

// TestDoctorOfAnAgent: each state of an agent has its verdict, and what is not fine says
// what to do.
func TestDoctorOfAnAgent(t *testing.T) {
	network := func(nat string, n api.AgentNetwork) *api.AgentStatus {
		return &api.AgentStatus{Reach: wire.Reach{NAT: nat, Relay: "fra1"}, Network: &n}
	}
	relays := func(list ...api.AgentRelay) *api.AgentStatus { return network("easy", api.AgentNetwork{Relays: list}) }
	up, idle, dead := api.AgentRelay{ID: "fra1", Connected: true}, api.AgentRelay{ID: "ams1"}, api.AgentRelay{ID: "lon1", Error: "i/o timeout"}
	peers := func(list ...api.AgentPeer) *api.AgentStatus {
		return &api.AgentStatus{State: api.AgentRunning, Peers: list}
	}
	direct, relayed, lost := api.AgentPeer{Route: "direct"}, api.AgentPeer{Route: "relay", Why: "UDP is blocked here"}, api.AgentPeer{Name: "db", Route: "none"}
	for _, tt := range []struct {
		name    string
		look    func(*api.AgentStatus) finding
		s       *api.AgentStatus
		verdict verdict
		says    string
	}{
		{"running", lookAtAgent, &api.AgentStatus{State: api.AgentRunning, Revision: 7}, fine, "revision 7"},
		{"offline", lookAtAgent, &api.AgentStatus{State: api.AgentOffline, Control: api.ControlStatus{Error: "refused"}}, warn, "refused"},
		{"pending", lookAtAgent, &api.AgentStatus{State: api.AgentPending}, warn, "approval"},
		{"revoked", lookAtAgent, &api.AgentStatus{State: api.AgentRevoked}, warn, "revoked"},
		{"no network yet", lookAtNetwork, &api.AgentStatus{}, blank, "not looked"},
		{"easy", lookAtNetwork, network("easy", api.AgentNetwork{IPv4: true, IPv6: true}), fine, "IPv4 and IPv6"},
		{"no NAT", lookAtNetwork, network("none", api.AgentNetwork{IPv4: true}), fine, "no NAT"},
		{"little room", lookAtNetwork, network("none", api.AgentNetwork{IPv4: true, Room: 425_984}), fine, "416 KiB"},
		{"hard", lookAtNetwork, network("hard", api.AgentNetwork{IPv4: true}), warn, "few pairs"},
		{"blocked", lookAtNetwork, network("blocked", api.AgentNetwork{}), warn, "no path is direct by UDP"},
		{"relays", lookAtRelays, relays(up, idle), fine, "fra1, one of 2"},
		{"one is dead", lookAtRelays, relays(up, dead), warn, "lon1 (i/o timeout)"},
		{"all are dead", lookAtRelays, relays(dead), warn, "none of 1"},
		{"not connected yet", lookAtRelays, relays(idle), warn, "any of 1"},
		{"no relay", lookAtRelays, relays(), warn, "cannot meet"},
		{"paths", lookAtPaths, peers(direct, relayed), fine, "1 direct, 1 by relay (1: UDP is blocked here)"},
		{"no way", lookAtPaths, peers(direct, lost), warn, "no way to db"},
		{"nobody", lookAtPaths, peers(), blank, "no policy"},
		{"no gateway", lookAtGateway, peers(), blank, "no gateway"},
		{"gateway", lookAtGateway, &api.AgentStatus{Gateway: &api.AgentGateway{Routes: make([]wire.Route, 2), TCP: 3}}, fine, "3 flows"},
		{"nothing behind", lookAtGateway, &api.AgentStatus{Gateway: &api.AgentGateway{Routes: make([]wire.Route, 1), Failed: 4}}, warn, "4 times"},
	} {
		got := tt.look(tt.s)
		if got.Verdict != tt.verdict || !strings.Contains(got.Detail, tt.says) {
			t.Errorf("%s: %+v, want %s with %q", tt.name, got, tt.verdict, tt.says)
		}
		if got.Verdict == warn && got.Do == "" {
			t.Errorf("%s: nothing to do about %q", tt.name, got.Detail)
		}
	}
	if f, off := agentClock(&api.AgentStatus{Control: api.ControlStatus{ClockSkew: -time.Hour}}); !off || f.Verdict != warn || !strings.Contains(f.Detail, "1h0m0s") {
		t.Errorf("an hour off: %+v", f)
	}
	if f, off := agentClock(&api.AgentStatus{Control: api.ControlStatus{ClockSkew: time.Second}}); off {
		t.Errorf("a second off: %+v", f)
	}
}
