package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"enclave/agent"
	"enclave/agent/link"
	"enclave/wire"
	"enclave/wire/api"
)

// agentStatus asks the agent of the state once; nil where none runs.
func (p *patient) agentStatus(ctx context.Context) *api.AgentStatus {
	if p.askedAgent {
		return p.agent
	}
	p.askedAgent = true
	if _, err := os.Stat(filepath.Join(p.dir, agent.SocketName)); err != nil {
		return nil
	}
	if s, err := agent.NewLocal(p.dir).Status(ctx); err == nil {
		p.agent = &s
	}
	return p.agent
}

// ofAgent is a check that looks at the status of a running agent.
func ofAgent(look func(*api.AgentStatus) finding) func(context.Context, *patient) finding {
	return func(ctx context.Context, p *patient) finding {
		s := p.agentStatus(ctx)
		if s == nil {
			return found(blank, "", "no agent runs here")
		}
		return look(s)
	}
}

func checkAgent(ctx context.Context, p *patient) finding {
	if _, err := os.Stat(filepath.Join(p.dir, agentFile)); err != nil {
		return found(blank, "", "no agent has its state here")
	}
	s := p.agentStatus(ctx)
	if s == nil {
		return found(warn, "start \"enclave agent\" with this --state", "its state is here, and it does not run")
	}
	return lookAtAgent(s)
}

func lookAtAgent(s *api.AgentStatus) finding {
	switch s.State {
	case api.AgentRunning:
		return found(fine, "", "%s follows %s at revision %d", s.Self.Name, s.Control.URL, s.Revision)
	case api.AgentOffline:
		until := "for ever"
		if s.ValidUntil != nil {
			until = "until " + s.ValidUntil.Format(time.RFC3339)
		}
		return found(warn, "is the control plane up, and reachable from here? See: enclave netcheck --control "+s.Control.URL,
			"runs on its last map, %s: %s", until, s.Control.Error)
	case api.AgentPending, api.AgentDisabled, api.AgentClosed, api.AgentStarting:
		return found(warn, "ask whoever administers "+s.Control.URL, "%s", noPeers(s))
	}
	return found(warn, "enrol again with a new --state and a new key", "%s", s.State)
}

func lookAtNetwork(s *api.AgentStatus) finding {
	n := s.Network
	if n == nil {
		return found(blank, "", "the agent has not looked at its network yet")
	}
	const do = "enclave netcheck says what this network lets through"
	families := []string{}
	for _, f := range []struct {
		name string
		ok   bool
	}{{"IPv4", n.IPv4}, {"IPv6", n.IPv6}} {
		if f.ok {
			families = append(families, f.name)
		}
	}
	by := strings.Join(families, " and ")
	switch s.Reach.NAT {
	case "":
		return found(blank, "", "not known yet")
	case link.NATBlocked:
		return found(warn, do, "UDP is blocked, or no relay's STUN is up: no path is direct by UDP")
	case link.NATHard:
		return found(warn, do, "UDP works by %s, and the NAT maps by destination: few pairs become direct", by)
	case link.NATNone:
		return found(fine, "", "UDP works by %s, no NAT%s", by, room(n))
	}
	return found(fine, "", "UDP works by %s behind a NAT that keeps one mapping%s", by, room(n))
}

// room says what a fast stream gains from, where the kernel gives an agent without privilege
// less than it asks for (decision 0208). It is nothing that is wrong.
func room(n *api.AgentNetwork) string {
	if n.Room == 0 || n.Room >= 4<<20 {
		return ""
	}
	return fmt.Sprintf("; the kernel holds %d KiB of what comes, and streams go faster with 8 MiB: sysctl net.core.rmem_max=4194304", n.Room>>10)
}

func lookAtRelays(s *api.AgentStatus) finding {
	if s.Network == nil || len(s.Network.Relays) == 0 {
		return found(warn, "enrol a relay with a key of \"enclave key create --relay\"", "the map names none: pairs without a direct path cannot meet")
	}
	connected, mute, why := 0, []string{}, ""
	for _, r := range s.Network.Relays {
		if r.Connected {
			connected++
		} else if r.Error != "" {
			mute = append(mute, string(r.ID))
			why = r.Error
		}
	}
	switch {
	case connected == 0 && why != "":
		return found(warn, "enclave netcheck tries each of them", "none of %d can be reached: %s", len(s.Network.Relays), why)
	case connected == 0:
		return found(warn, "enclave netcheck tries each of them", "not connected to any of %d", len(s.Network.Relays))
	case len(mute) > 0:
		return found(warn, "enclave netcheck tries each of them", "home is %s; not reached: %s (%s)", s.Reach.Relay, strings.Join(mute, ", "), why)
	}
	return found(fine, "", "home is %s%s, one of %d", s.Reach.Relay, howText(homeHow(s)), len(s.Network.Relays))
}

func lookAtPaths(s *api.AgentStatus) finding {
	direct, streams, relayed, none := 0, 0, 0, []string{}
	whys := map[string]int{}
	for i := range s.Peers {
		switch p := &s.Peers[i]; p.Route {
		case "direct":
			direct++
			if word, _ := api.Way(p.Route, p.Via); word != p.Route {
				streams++
			}
		case "relay":
			relayed++
			whys[p.Why]++
		default:
			none = append(none, p.Name)
		}
	}
	if len(s.Peers) == 0 {
		return found(blank, "", "%s", noPeers(s))
	}
	text := fmt.Sprintf("%d direct, %d by relay", direct, relayed)
	if streams > 0 {
		text = fmt.Sprintf("%d direct, %d of them (tcp), %d by relay", direct, streams, relayed)
	}
	most, why := 0, ""
	for w, n := range whys {
		if n > most || n == most && w < why {
			most, why = n, w
		}
	}
	if why != "" {
		text += fmt.Sprintf(" (%d: %s)", most, why)
	}
	if len(none) > 0 {
		return found(warn, "are those systems up? See: enclave agent status", "%s, no way to %s", text, strings.Join(none[:min(len(none), 5)], ", "))
	}
	return found(fine, "", "%s", text)
}

func lookAtGateway(s *api.AgentStatus) finding {
	g := s.Gateway
	switch {
	case g == nil || len(g.Routes) == 0:
		return found(blank, "", "it is no gateway")
	case g.Failed > 0 && g.Opened == 0:
		return found(warn, "is what lies behind it up?", "%s; nothing behind it has answered, %s", wire.Count(len(g.Routes), "route"), wire.Count(g.Failed, "time"))
	}
	return found(fine, "", "%s, %s now; %d opened, %d refused, %d not answered", wire.Count(len(g.Routes), "route"), wire.Count(g.TCP+g.UDP, "flow"), g.Opened, g.Refused, g.Failed)
}

// checkDNS has the agent resolve a name: a peer's, which must be known, or else its own.
func checkDNS(ctx context.Context, p *patient) finding {
	s := p.agentStatus(ctx)
	if s == nil || s.Self.ID == "" {
		return found(blank, "", "no agent runs here")
	}
	id, known := s.Self.ID, false
	if len(s.Peers) > 0 {
		id, known = s.Peers[0].ID, true
	}
	name := string(id) + ".id.enclave"
	r, err := agent.NewLocal(p.dir).Resolve(ctx, name, "A")
	switch {
	case err != nil:
		return found(warn, "enclave agent status", "the resolver does not answer: %v", err)
	case known && r.Kind != "found":
		return found(warn, "enclave resolve "+name, "%s is %s", name, r.Kind)
	}
	return found(fine, "", "the agent answers for its names; whether this machine asks it is its own configuration")
}

// agentClock compares this machine's clock with that of the control plane that an agent
// follows.
func agentClock(s *api.AgentStatus) (finding, bool) {
	if s == nil || s.Control.ClockSkew.Abs() <= wire.MaxClockSkew {
		return finding{}, false
	}
	return found(warn, "set this machine's clock, or let it follow a time server",
		"%s apart from the control plane's: hours and expiry end at the wrong time", s.Control.ClockSkew.Abs().Round(time.Second)), true
}
