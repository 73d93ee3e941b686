package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"enclave/agent"
	"enclave/wire/api"
)

func (a *app) local() (*agent.Local, error) {
	dir, err := a.stateDir()
	if err != nil {
		return nil, err
	}
	return agent.NewLocal(dir), nil
}

func (a *app) ping() *cobra.Command {
	var count int
	var every, timeout time.Duration
	c := &cobra.Command{Use: "ping NAME", Short: "Probe a system over the path that its data takes",
		Long: `Probes a system from the agent that runs on --state. The probe travels the way the
data does, so it shows whether that is direct or over a relay. It needs no rule: whoever
a policy introduces answers.`,
		Args: exactly("NAME"), ValidArgsFunction: a.completePeers, RunE: func(c *cobra.Command, args []string) error {
			l, err := a.local()
			if err != nil {
				return err
			}
			if count < 1 {
				return usage("--count %d: want 1 or more", count)
			}
			ctx, stop := untilSignal(c.Context())
			defer stop()
			for i := range count {
				if i > 0 && !pause(ctx, every) {
					break
				}
				if err := a.probe(ctx, l, args[0], timeout); err != nil {
					return err
				}
			}
			return nil
		}}
	c.Flags().IntVarP(&count, "count", "c", 3, "how many probes, `N`")
	c.Flags().DurationVar(&every, "interval", time.Second, "time between probes")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long to wait for each answer")
	return c
}

// probe sends one probe and prints its answer.
func (a *app) probe(ctx context.Context, l *agent.Local, name string, timeout time.Duration) error {
	try, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := l.Ping(try, name)
	switch {
	case err == nil:
		return a.pong(r)
	case ctx.Err() != nil: // Ctrl-C
		return nil
	case try.Err() != nil:
		return timedOut("%s does not answer within %s", name, timeout)
	}
	return err
}

func timedOut(format string, args ...any) *failure {
	return (&failure{exit: exitTryAgain, Code: "timeout", Message: fmt.Sprintf(format, args...)}).
		hint("\"enclave agent status\" shows the path to each peer, and why it is not direct")
}

// pause returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func (a *app) pong(r api.PingResult) error {
	if a.json {
		return json.NewEncoder(a.Out).Encode(r)
	}
	via := r.Via
	if r.Route == "relay" {
		via = "relay " + via
	}
	_, err := fmt.Fprintf(a.Out, "%s (%s, %s): %s via %s in %s\n", clean(r.Name), r.Peer, r.Addr, r.Route, via, r.RTT.Round(10*time.Microsecond))
	return err
}

func (a *app) waitFor() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{Use: "waitfor NAME", Short: "Wait until a system is introduced and answers", Args: exactly("NAME"), ValidArgsFunction: a.completePeers,
		Long: `Waits until a policy introduces the named system to the agent that runs on --state and
it answers a probe. The agent itself may start meanwhile. The exit code is 6 when that
has not come about in time, whatever is missing still; the message says what.`,
		RunE: func(c *cobra.Command, args []string) error {
			l, err := a.local()
			if err != nil {
				return err
			}
			r, err := waitFor(c.Context(), l, args[0], timeout)
			if err != nil {
				f := explain(err)
				f.exit, f.Message = exitTryAgain, fmt.Sprintf("waited %s: %s", timeout, f.Message)
				return f
			}
			return a.pong(r)
		}}
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait")
	return c
}

// waitFor also waits for the agent itself: scripts start one and wait in the next line.
func waitFor(ctx context.Context, l *agent.Local, name string, timeout time.Duration) (api.PingResult, error) {
	deadline := time.Now().Add(timeout)
	for {
		r, err := l.WaitFor(ctx, name, time.Until(deadline))
		if !errors.Is(err, agent.ErrNoAgent) || time.Now().After(deadline) {
			return r, err
		}
		if !pause(ctx, 100*time.Millisecond) {
			return r, ctx.Err()
		}
	}
}

func (a *app) agentStatus() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Show the agent that runs on --state", Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
		l, err := a.local()
		if err != nil {
			return err
		}
		s, err := l.Status(c.Context())
		if err != nil {
			return err
		}
		return a.print(s, func(w io.Writer) { statusText(w, &s) })
	}}
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
	control := "connected to " + s.Control.URL
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
		[]string{"home relay", orDash(string(s.Reach.Relay))},
		[]string{"live flows", num(len(s.Flows))},
	)
	networksText(w, *s)
	for _, warning := range s.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	if len(s.Peers) == 0 {
		fmt.Fprintln(w, "\n"+noPeers(s))
		return
	}
	rows := [][]string{{"PEER", "ID", "ADDRESS", "ROUTE", "VIA", "RTT", "WHY NOT DIRECT", "HANDSHAKE"}}
	for _, p := range s.Peers {
		rtt := "-"
		if p.RTT > 0 {
			rtt = p.RTT.Round(10 * time.Microsecond).String()
		}
		rows = append(rows, []string{clean(p.Name), string(p.ID), p.IPv4.String(), p.Route, orDash(p.Via), rtt, orDash(p.WhyNotDirect), when(&p.LastHandshake)})
	}
	fmt.Fprintln(w)
	table(w, rows...)
}
