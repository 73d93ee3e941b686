package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"enclave/agent"
	"enclave/agent/link"
	"enclave/sandbox/session"
	"enclave/sandbox/tools"
	"enclave/wire"
)

// Runs gives sandbox runs systems of their own on the overlay: an agent each, in this
// process, with an identity that nobody keeps.
type Runs struct {
	Control     string                 // https://host:port
	Fingerprint string                 // of the organisation's root
	Key         func() (string, error) // reads the secret of an ephemeral enrolment key
	Network     link.Network           // nil is the machine's
	Loopback    bool                   // offer loopback addresses to peers on this machine
	Life        time.Duration          // of an identity; 0 is wire.DefaultRunLife
	Beat        time.Duration          // expected heartbeat; 0 is wire.HeartbeatEvery
	Version     string
	Logger      *slog.Logger // nil discards
}

var _ session.Joiner = (*Runs)(nil)

// runNode is one run's system.
type runNode struct {
	*agent.Agent
	id    wire.SystemID
	stop  context.CancelFunc
	ended chan struct{}
	err   error // of Run; valid once ended is closed
}

// leaveFor bounds how long an ending run waits for control. What it cannot say, control
// finds out: the connection is gone.
const leaveFor = 3 * time.Second

// Join enrols a run and waits until it knows whom it may reach.
func (r *Runs) Join(ctx context.Context, run string, tags []string) (session.Node, error) {
	info := &wire.RunInfo{Seconds: int(r.Life / time.Second)}
	for _, text := range tags {
		tag, err := wire.ParseTag(text)
		if err != nil {
			return nil, fmt.Errorf("join: %w", err)
		}
		info.Tags = append(info.Tags, tag)
	}
	network := r.Network
	if network == nil {
		network = link.System()
	}
	log := r.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a, err := agent.New(agent.Config{
		Name: run, Control: r.Control, Fingerprint: r.Fingerprint, Key: r.Key, Keeper: new(agent.MemoryKeeper),
		Network: network, Loopback: r.Loopback, Version: r.Version, Beat: r.Beat, Run: info, Logger: log.With("run", run),
	})
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	under, stop := context.WithCancel(context.WithoutCancel(ctx))
	n := &runNode{Agent: a, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(n.ended)
		n.err = a.Run(under)
	}()
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-n.ended:
			cancel()
		case <-wait.Done():
		}
	}()
	if n.id, err = a.Ready(wait); err != nil {
		stop()
		<-n.ended
		if n.err != nil { // why it was not ready
			err = n.err
		}
		return nil, fmt.Errorf("join: %w", err)
	}
	return n, nil
}

// System is the run's ID on the overlay.
func (n *runNode) System() string { return string(n.id) }

// Append keeps a record in control's audit trail, as this run.
func (n *runNode) Append(ctx context.Context, r tools.Record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return n.Record(ctx, wire.RunRecord{Action: r.Action, Detail: text})
}

// Close ends the identity: every map forgets the run.
func (n *runNode) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveFor)
	defer cancel()
	err := n.Leave(ctx)
	n.stop()
	<-n.ended
	if n.err != nil && !errors.Is(n.err, agent.ErrRevoked) && !errors.Is(n.err, net.ErrClosed) {
		err = errors.Join(err, n.err)
	}
	return err
}
