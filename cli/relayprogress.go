package cli

import (
	"encoding/json"
	"fmt"
	"time"

	"enclave/cli/node"
	"enclave/wire"
)

// relayProgress prints the steps of a relay as they happen.
func (a *app) relayProgress(addr string) func(node.RelayProgress) {
	if a.json {
		enc := json.NewEncoder(a.Out)
		return func(p node.RelayProgress) {
			_ = enc.Encode(struct {
				State   node.RelayStep `json:"state"`
				Relay   string         `json:"relay"`
				Addr    string         `json:"addr"`
				Clients int            `json:"clients"`
				Grace   string         `json:"grace,omitempty"`
			}{p.State, string(p.Relay), addr, p.Clients, briefly(p.Grace)})
		}
	}
	return func(p node.RelayProgress) { a.printf("%s\n", relayText(p, addr)) }
}

func briefly(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.Round(100 * time.Millisecond).String()
}

// relayText says a step in a line.
func relayText(p node.RelayProgress, addr string) string {
	switch {
	case p.State == node.RelayServes:
		return fmt.Sprintf("relay %s serves at %s; Ctrl-C drains and ends it", p.Relay, addr)
	case p.State == node.RelayDrains && p.Clients == 0:
		return "draining: nobody is connected any more"
	case p.State == node.RelayDrains:
		return fmt.Sprintf("draining: %s connected, %s left to move to another relay", wire.Count(p.Clients, "system"), briefly(p.Grace))
	case p.Clients > 0:
		were := "were"
		if p.Clients == 1 {
			were = "was"
		}
		return fmt.Sprintf("relay %s ended; %s had no other relay and %s cut", p.Relay, wire.Count(p.Clients, "system"), were)
	}
	return fmt.Sprintf("relay %s ended; everybody had moved", p.Relay)
}
