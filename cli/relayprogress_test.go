package cli

import (
	"testing"
	"time"

	"enclave/cli/node"
)

func TestRelayText(t *testing.T) {
	for want, p := range map[string]node.RelayProgress{
		"relay r1 serves at 192.0.2.7:443; Ctrl-C drains and ends it":      {State: node.RelayServes, Relay: "r1"},
		"draining: 3 systems connected, 5s left to move to another relay":  {State: node.RelayDrains, Clients: 3, Grace: 5 * time.Second},
		"draining: 1 system connected, 4.3s left to move to another relay": {State: node.RelayDrains, Clients: 1, Grace: 4321 * time.Millisecond},
		"draining: nobody is connected any more":                           {State: node.RelayDrains, Grace: time.Second},
		"relay r1 ended; everybody had moved":                              {State: node.RelayEnded, Relay: "r1"},
		"relay r1 ended; 2 systems had no other relay and were cut":        {State: node.RelayEnded, Relay: "r1", Clients: 2},
	} {
		if got := relayText(p, "192.0.2.7:443"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
