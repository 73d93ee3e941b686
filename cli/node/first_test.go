package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"enclave/agent"
	"enclave/control/admin"
	"enclave/store"
	"enclave/wire"
)

// TestAFirstStartThatEndedEarlyIsFollowedByAFirstStart: whenever a start ends before it
// serves, the next one makes secrets that somebody sees, and those alone are in force.
func TestAFirstStartThatEndedEarlyIsFollowedByAFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	open := func(ctx context.Context) *Control {
		t.Helper()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		c, err := OpenControl(ctx, ControlConfig{Dir: dir, URL: "https://" + l.Addr().String(), Listener: l, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	stopped, stop := context.WithCancel(t.Context())
	c := open(t.Context()) // ends when it was opened
	early := c.First()
	if err := c.Close(); err != nil || early == nil {
		t.Fatalf("%v, %v", early, err)
	}
	c = open(t.Context()) // ends before it serves
	shown := c.First()
	stop()
	if err := c.Run(stopped); err != nil {
		t.Errorf("ended before it served: %v", err)
	}
	if shown == nil || *shown == *early || shown.Fingerprint != early.Fingerprint {
		t.Errorf("after a start that did not serve: %v, before: %v", shown, early)
	}
	c = open(t.Context())
	first := c.First()
	if first == nil {
		t.Fatal("nobody has seen a key, and none is shown any more")
	}
	if err := c.admitFirst(t.Context()); err != nil {
		t.Fatal(err)
	}
	keys, err := c.store.Keys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if _, err := c.store.Token(t.Context(), admin.Token(first.Token).Hash(), time.Now()); err != nil {
		t.Errorf("the token of the last: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open(t.Context())
	defer c.Close()
	if c.First() != nil {
		t.Error("a second administrator")
	}
}

// forgetful keeps nothing of an enrolment, as a relay does that is killed before it can.
type forgetful struct {
	agent.MemoryKeeper
	well atomic.Bool
}

var errKilled = errors.New("killed")

func (f *forgetful) Save(b []byte) error {
	if !f.well.Load() && bytes.Contains(b, []byte(`"svid"`)) {
		return errKilled
	}
	return f.MemoryKeeper.Save(b)
}

// TestUpKilledWhileItsRelayEnrols: control has the enrolment and the relay does not know.
func TestUpKilledWhileItsRelayEnrols(t *testing.T) {
	dir, keeper := filepath.Join(t.TempDir(), "state"), new(forgetful)
	up := func() (relays []store.Relay, err error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		log := slog.New(slog.DiscardHandler)
		var u *Up
		u, err = OpenUp(ctx, UpConfig{
			Control: ControlConfig{Dir: dir, URL: "https://" + l.Addr().String(), Listener: l, Logger: log},
			Relay: RelayConfig{Name: "here", Keeper: keeper, Info: wire.RelayInfo{Addr: l.Addr().String()}, Drain: time.Nanosecond,
				Dial: (&net.Dialer{}).DialContext, Logger: log, Progress: func(p RelayProgress) {
					if p.State == RelayServes {
						relays, err = u.store.Relays(ctx)
						stop()
					}
				}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return relays, errors.Join(u.Run(ctx), err)
	}
	if _, err := up(); !errors.Is(err, errKilled) {
		t.Fatalf("not killed: %v", err)
	}
	keeper.well.Store(true)
	relays, err := up()
	if err != nil || len(relays) != 1 {
		t.Errorf("the start after it: %d relays, %v", len(relays), err)
	}
	if b, err := keeper.Load(); err != nil || bytes.Contains(b, []byte("secret")) {
		t.Errorf("a secret is kept that is of no use any more: %v", err)
	}
}
