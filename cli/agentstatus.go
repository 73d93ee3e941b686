package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"enclave/agent"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) agentStatus() *cobra.Command {
	var watch bool
	c := &cobra.Command{Use: "status", Short: "Show the agent that runs on --state, and the route to each peer",
		Long: `Shows the agent that runs on --state: what it follows, how its network looks, and for each
peer the route, since when, the route before that, and why it is not direct. --watch goes on
with a line for each change; under --json, with the whole status at each change.`,
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
			l, err := a.local()
			if err != nil {
				return err
			}
			s, err := l.Status(c.Context())
			if err != nil {
				return err
			}
			if err := a.print(s, func(w io.Writer) { statusText(w, &s) }); err != nil || !watch {
				return err
			}
			ctx, stop := untilSignal(c.Context())
			defer stop()
			return a.watchAgent(ctx, l, s)
		}}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on, and tell every change")
	return c
}

// watchBeat is how often --watch looks.
const watchBeat = 500 * time.Millisecond

// watchAgent prints what changes until ctx ends. An agent that ends is told once, and
// waited for.
func (a *app) watchAgent(ctx context.Context, l *agent.Local, was api.AgentStatus) error {
	for gone := false; pause(ctx, watchBeat); {
		s, err := l.Status(ctx)
		if err != nil {
			if !gone && ctx.Err() == nil && !a.json {
				a.printf("%s %v\n", time.Now().Format(time.TimeOnly), err)
			}
			gone = true
			continue
		}
		lines := statusChanges(&was, &s)
		if gone {
			lines, gone = append([]string{"the agent is back"}, lines...), false
		}
		was = s
		if len(lines) == 0 {
			continue
		}
		if a.json {
			if err := json.NewEncoder(a.Out).Encode(s); err != nil {
				return err
			}
			continue
		}
		for _, line := range lines {
			a.printf("%s %s\n", time.Now().Format(time.TimeOnly), line)
		}
	}
	return nil
}

// statusChanges says how two looks at an agent differ: its state, its network, its
// peers and the routes to them. Counters do not matter.
func statusChanges(was, is *api.AgentStatus) (lines []string) {
	tell := func(format string, args ...any) { lines = append(lines, clean(fmt.Sprintf(format, args...))) }
	if was.State != is.State {
		tell("%s, was %s", is.State, was.State)
	}
	if was.Reach.NAT != is.Reach.NAT {
		tell("the NAT here is %s, was %s", orDash(is.Reach.NAT), orDash(was.Reach.NAT))
	}
	if was.Reach.Relay != is.Reach.Relay {
		tell("the home relay is %s, was %s", orDash(string(is.Reach.Relay)), orDash(string(was.Reach.Relay)))
	}
	before := make(map[wire.SystemID]*api.AgentPeer, len(was.Peers))
	for i := range was.Peers {
		before[was.Peers[i].ID] = &was.Peers[i]
	}
	for i := range is.Peers {
		p := &is.Peers[i]
		old := before[p.ID]
		delete(before, p.ID)
		switch {
		case old == nil:
			tell("%s is introduced: %s", p.Name, routeAndWhy(p))
		case old.Route != p.Route || old.Via != p.Via:
			tell("%s: %s, was %s", p.Name, routeAndWhy(p), routeText(old))
		case old.WhyNotDirect != p.WhyNotDirect:
			tell("%s: %s", p.Name, routeAndWhy(p))
		}
	}
	for i := range was.Peers {
		if p := &was.Peers[i]; before[p.ID] != nil {
			tell("%s is introduced no more", p.Name)
		}
	}
	return lines
}

// routeText is the route to a peer: direct and an address, relay and its name, or none.
func routeText(p *api.AgentPeer) string {
	word, at := api.Way(p.Route, p.Via)
	return strings.TrimSpace(word + " " + at)
}

func routeAndWhy(p *api.AgentPeer) string {
	if p.Why == "" {
		return routeText(p)
	}
	return routeText(p) + " (" + p.Why + ")"
}

// noPeers says why there is nobody, and who can change that.
func noPeers(s *api.AgentStatus) string {
	id := string(s.Self.ID)
	switch s.State {
	case api.AgentStarting:
		return "no peers: this system has no map yet"
	case api.AgentPending:
		return "no peers: this system waits for approval; an administrator runs \"enclave system approve " + id + "\""
	case api.AgentDisabled:
		return "no peers: this system is disabled; an administrator runs \"enclave system enable " + id + "\""
	case api.AgentClosed:
		return "no peers: there was no word from control for as long as the map counts"
	}
	return "no peers: no policy introduces anyone to this system now"
}

func statusText(w io.Writer, s *api.AgentStatus) {
	control := "connected to " + s.Control.URL + howText(s.Control.How)
	if !s.Control.Connected {
		control = "not connected to " + s.Control.URL + ": " + orDash(s.Control.Error)
	}
	table(w,
		[]string{"state", s.State},
		[]string{"system", clean(s.Self.Name) + " (" + string(s.Self.ID) + ")"},
		[]string{"addresses", s.Self.IPv4.String() + ", " + s.Self.IPv6.String()},
		[]string{"tags", join(s.Self.Tags)},
		[]string{"control", control},
		[]string{"revision", num(int(s.Revision)) + ", counts until " + when(s.ValidUntil)},
		[]string{"NAT", orDash(s.Reach.NAT)},
		[]string{"home relay", orDash(string(s.Reach.Relay)) + howText(homeHow(s))},
		[]string{"live flows", num(len(s.Flows))},
	)
	if s.Network != nil && s.Network.Mapping != nil {
		fmt.Fprintf(w, "port mapping %s\n", mappingText(s.Network.Mapping))
	}
	if s.Network != nil && s.Network.Listen != "" {
		fmt.Fprintf(w, "peers may come by TCP at %s\n", s.Network.Listen)
	}
	networksText(w, *s)
	for _, warning := range s.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	if len(s.Peers) == 0 {
		fmt.Fprintln(w, "\n"+noPeers(s))
		return
	}
	rows := [][]string{{"PEER", "ID", "ADDRESS", "ROUTE", "VIA", "RTT", "SINCE", "BEFORE", "HANDSHAKE"}}
	for i := range s.Peers {
		p := &s.Peers[i]
		rtt := "-"
		if p.RTT > 0 {
			rtt = ms(p.RTT)
		}
		word, at := api.Way(p.Route, p.Via)
		rows = append(rows, []string{clean(p.Name), string(p.ID), p.IPv4.String(), word, orDash(at), rtt, when(&p.Since), orDash(p.Was), when(&p.LastHandshake)})
	}
	fmt.Fprintln(w)
	table(w, rows...)
	for i := range s.Peers {
		if p := &s.Peers[i]; p.Why != "" {
			not := "not direct"
			if p.Route == "direct" {
				not = "direct by TCP and not by UDP"
			}
			fmt.Fprintf(w, "%s is %s: %s (%s)\n", clean(p.Name), not, p.Why, p.WhyNotDirect)
		}
	}
}

// homeHow is the shape in which the home relay is reached.
func homeHow(s *api.AgentStatus) string {
	if s.Network != nil {
		for _, r := range s.Network.Relays {
			if r.ID == s.Reach.Relay {
				return r.How
			}
		}
	}
	return ""
}

// howText is the shape of a connection, behind what it leads to.
func howText(how string) string {
	if how == "" {
		return ""
	}
	return " (" + clean(how) + ")"
}

// mappingText says what became of the port that the router was asked for.
func mappingText(m *api.AgentMapping) string {
	switch {
	case m.Addr != "":
		return m.Addr + " by " + clean(m.How)
	case m.Error != "":
		return "none: " + clean(m.Error)
	}
	return "asked for"
}
