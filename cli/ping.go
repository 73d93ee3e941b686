package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"enclave/agent"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) local() (*agent.Local, error) {
	dir, err := a.stateDir()
	if err != nil {
		return nil, err
	}
	return agent.NewLocal(dir), nil
}

// pingFlags are the flags of ping.
type pingFlags struct {
	count          int
	every, timeout time.Duration
	untilDirect    bool
	icmp           bool
}

func (a *app) ping() *cobra.Command {
	var f pingFlags
	c := &cobra.Command{Use: "ping NAME", Short: "Probe a system over the path that its data takes",
		Long: `Probes a system, by name, ID or overlay address, from the agent that runs on --state. The
probe travels the way the data does, so it shows whether that is direct or over a relay. It
needs no rule: whoever a policy introduces answers. --icmp also sends an echo through the
tunnel, which takes a rule for icmp and shows what WireGuard and both filters add.

--until-direct goes on until the path is direct, at most --count probes. The exit code is 6
when no probe was answered, or none of them directly.`,
		Example: "  enclave ping web --state laptop\n  enclave ping web --until-direct --count 30 --state laptop\n  enclave ping 100.64.0.7 --icmp --json --state laptop",
		Args:    exactly("NAME"), ValidArgsFunction: a.completePeers, RunE: func(c *cobra.Command, args []string) error {
			l, err := a.local()
			if err != nil {
				return err
			}
			if f.untilDirect && !c.Flags().Changed("count") {
				f.count = 10
			}
			if f.count < 1 {
				return usage("--count %d: want 1 or more", f.count)
			}
			if f.every < minInterval {
				return usage("--interval %s: want %s or more", f.every, minInterval)
			}
			ctx, stop := untilSignal(c.Context())
			defer stop()
			return a.runPing(ctx, l, args[0], &f)
		}}
	c.Flags().IntVarP(&f.count, "count", "c", 3, "how many probes, `N` (10 with --until-direct)")
	c.Flags().DurationVarP(&f.every, "interval", "i", time.Second, "time between probes")
	c.Flags().DurationVar(&f.timeout, "timeout", 5*time.Second, "how long to wait for each answer")
	c.Flags().BoolVar(&f.untilDirect, "until-direct", false, "go on until the path is direct")
	c.Flags().BoolVar(&f.icmp, "icmp", false, "also send an ICMP echo through the tunnel")
	return c
}

// minInterval keeps a mistyped interval from being a flood.
const minInterval = 10 * time.Millisecond

// runPing probes and sums up.
func (a *app) runPing(ctx context.Context, l *agent.Local, name string, f *pingFlags) error {
	var t pingTally
	for i := range f.count {
		if i > 0 && !pause(ctx, f.every) {
			break
		}
		r, err := a.probe(ctx, l, name, f)
		switch {
		case ctx.Err() != nil: // Ctrl-C
		case err == nil:
			t.answered(r)
			if err := a.pong(r); err != nil {
				return err
			}
		case errors.Is(err, errUnanswered):
			if t.lost(); f.count == 1 {
				break
			}
			if err := a.lostProbe(name, f.timeout); err != nil {
				return err
			}
		default:
			return err
		}
		if ctx.Err() != nil || f.untilDirect && t.last.Route == "direct" {
			break
		}
	}
	if !a.json && t.sent > 1 {
		a.printf("%s\n", t.line())
	}
	return t.verdict(name, f)
}

// errUnanswered is a probe that got no answer in time.
var errUnanswered = errors.New("no answer in time")

// probe sends one probe.
func (a *app) probe(ctx context.Context, l *agent.Local, name string, f *pingFlags) (api.PingResult, error) {
	try, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	ask := l.Ping
	if f.icmp {
		ask = l.PingThrough
	}
	r, err := ask(try, name)
	if err != nil && try.Err() != nil {
		err = errUnanswered
	}
	return r, err
}

// pingTally is what the probes of one command came to.
type pingTally struct {
	sent, heard      int
	least, most, sum time.Duration
	last             api.PingResult
}

func (t *pingTally) answered(r api.PingResult) {
	if t.sent, t.heard, t.last = t.sent+1, t.heard+1, r; t.heard == 1 || r.RTT < t.least {
		t.least = r.RTT
	}
	t.most, t.sum = max(t.most, r.RTT), t.sum+r.RTT
}

func (t *pingTally) lost() { t.sent++ }

func (t *pingTally) line() string {
	if t.heard == 0 {
		return fmt.Sprintf("%s, none answered", wire.Count(t.sent, "probe"))
	}
	return fmt.Sprintf("%s, %d answered, min/avg/max %s/%s/%s", wire.Count(t.sent, "probe"), t.heard,
		ms(t.least), ms(t.sum/time.Duration(t.heard)), ms(t.most))
}

// verdict is the error that the tally comes to.
func (t *pingTally) verdict(name string, f *pingFlags) error {
	switch {
	case t.sent > 0 && t.heard == 0:
		return timedOut("%s does not answer within %s", name, f.timeout)
	case f.untilDirect && t.heard > 0 && t.last.Route != "direct":
		why := first(t.last.Why, "the path goes by "+t.last.Route)
		return (&failure{exit: exitTryAgain, Code: "not_direct", Message: fmt.Sprintf("%s is not direct after %s: %s", name, wire.Count(t.sent, "probe"), why)}).
			hint("\"enclave netcheck\" on both sides shows what the networks let through")
	}
	return nil
}

// lostPing is the line of a probe without an answer.
type lostPing struct {
	Name    string        `json:"name"`
	Lost    bool          `json:"lost"`
	Timeout time.Duration `json:"timeout_ns"`
}

func (a *app) lostProbe(name string, timeout time.Duration) error {
	if a.json {
		return json.NewEncoder(a.Out).Encode(lostPing{name, true, timeout})
	}
	a.printf("%s: no answer within %s\n", clean(name), timeout)
	return nil
}

// ms is a round trip as people read it.
func ms(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

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
	way, via := api.Way(r.Route, r.Via)
	if r.Route == "relay" {
		via = "relay " + via
	}
	text := fmt.Sprintf("%s (%s, %s): %s via %s in %s", clean(r.Name), r.Peer, r.Addr, way, via, ms(r.RTT))
	switch in := r.Inner; {
	case in != nil && in.Error != "":
		text += "; no echo through the tunnel: " + clean(in.Error)
	case in != nil:
		text += "; through the tunnel in " + ms(in.RTT)
	}
	_, err := fmt.Fprintln(a.Out, text)
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
