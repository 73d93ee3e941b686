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
		Args: exactly("NAME"), RunE: func(c *cobra.Command, args []string) error {
			l, err := a.local()
			if err != nil {
				return err
			}
			for i := range count {
				if i > 0 {
					select {
					case <-time.After(every):
					case <-c.Context().Done():
						return nil
					}
				}
				ctx, cancel := context.WithTimeout(c.Context(), timeout)
				r, err := l.Ping(ctx, args[0])
				cancel()
				if err != nil {
					return err
				}
				if err := a.pong(r); err != nil {
					return err
				}
			}
			return nil
		}}
	c.Flags().IntVarP(&count, "count", "c", 3, "how many probes")
	c.Flags().DurationVar(&every, "interval", time.Second, "time between probes")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long to wait for each answer")
	return c
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
	c := &cobra.Command{Use: "waitfor NAME", Short: "Wait until a system is introduced and answers", Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := a.local()
			if err != nil {
				return err
			}
			r, err := waitFor(c.Context(), l, args[0], timeout)
			if err != nil {
				return fmt.Errorf("waited %s: %w", timeout, err)
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
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
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
	for _, warning := range s.Warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	if len(s.Peers) == 0 {
		fmt.Fprintln(w, "\nno peers: no policy introduces anyone to this system now")
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
