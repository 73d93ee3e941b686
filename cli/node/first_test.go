package node

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"enclave/agent"
	"enclave/control"
	"enclave/control/admin"
	"enclave/control/enrol"
	"enclave/store"
	"enclave/wire"
)

// TestTheFirstKeyIsShownUntilItIsUsed: what a start has shown is in force, and every later
// start shows it again until somebody has enrolled with it.
func TestTheFirstKeyIsShownUntilItIsUsed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	open := func() *Control {
		t.Helper()
		c, err := openHere(t, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open() // ends when it was opened
	first := c.First()
	if err := c.Close(); err != nil || first == nil || first.EnrolmentKey == "" || c.EnrolmentKey() != first.EnrolmentKey {
		t.Fatalf("%v, %v", first, err)
	}
	c = open() // ends before it serves
	stopped, stop := context.WithCancel(t.Context())
	stop()
	again, key := c.First() != nil, c.EnrolmentKey()
	if err := c.Run(stopped); err != nil || key != first.EnrolmentKey || again {
		t.Errorf("the second start: %v, a first one again: %v, the same key: %v", err, again, key == first.EnrolmentKey)
	}
	if c.EnrolmentKey() != "" {
		t.Error("what serves has the key in memory, also when the state is locked")
	}
	c = open()
	wantFirst(t, c, first.EnrolmentKey, admin.Token(first.Token))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open()
	defer c.Close()
	if c.First() != nil || c.EnrolmentKey() != "" {
		t.Errorf("a second administrator: %v, a key that was used is shown: %v", c.First() != nil, c.EnrolmentKey() != "")
	}
}

// TestTheFirstKeyIsShownWhileItIsInForce: not while it is disabled, and not when it is gone.
func TestTheFirstKeyIsShownWhileItIsInForce(t *testing.T) {
	c, err := openHere(t, filepath.Join(t.TempDir(), "state"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, by := t.Context(), store.Change{By: "test", At: time.Now()}
	shown := func() bool {
		t.Helper()
		secret, err := c.store.ShownSecret(ctx, time.Now())
		if err != nil || secret != "" && secret != c.EnrolmentKey() {
			t.Error("another key", err)
		}
		return secret != ""
	}
	k, err := c.store.FindKey(ctx, "first key")
	if err != nil || !shown() {
		t.Fatal(err)
	}
	for _, on := range []bool{false, true} {
		if _, err := c.store.SetKeyEnabled(ctx, by, k.ID, on); err != nil || shown() != on {
			t.Errorf("enabled %v, shown %v, %v", on, shown(), err)
		}
	}
	if _, err := c.store.DeleteKey(ctx, by, k.ID); err != nil || shown() {
		t.Error("it is shown after its end", err)
	}
}

// TestAFirstStartGoesByTheTimeOfTheState: it begins an hour before what the state has seen,
// as the second bubble does.
func TestAFirstStartGoesByTheTimeOfTheState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	seen := anHourAhead(t, dir)
	synctest.Test(t, func(t *testing.T) {
		c, err := openHere(t, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		k, err := c.store.FindKey(t.Context(), "first key")
		if err != nil || k.CreatedAt.Before(seen) {
			t.Errorf("the key is of %s, before %s; %v", k.CreatedAt, seen, err)
		}
	})
}

// anHourAhead makes a state that has seen a time an hour after the one at which bubbles
// begin.
func anHourAhead(t *testing.T, dir string) (seen time.Time) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		_, err = control.Init(t.Context(), st, store.Change{By: "test", At: time.Now()}, "test", store.DefaultSettings())
		time.Sleep(time.Hour)
		seen = time.Now()
		if err := errors.Join(err, st.KeepTime(t.Context()), st.Close()); err != nil {
			t.Fatal(err)
		}
	})
	return seen
}

// openHere opens a control plane on a free port of this machine.
func openHere(t *testing.T, dir string, keep func(*First) error) (*Control, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return OpenControl(t.Context(), ControlConfig{Dir: dir, URL: "https://" + l.Addr().String(), Listener: l, Logger: slog.New(slog.DiscardHandler), KeepFirst: keep})
}

// wantFirst checks that there is one key and one token, that both are in force, and uses
// the key.
func wantFirst(t *testing.T, c *Control, key string, token admin.Token) {
	t.Helper()
	ctx := t.Context()
	keys, err := c.store.Keys(ctx)
	tokens, err2 := c.store.Tokens(ctx)
	if err := errors.Join(err, err2); err != nil || len(keys) != 1 || len(tokens) != 1 {
		t.Errorf("%d keys, %d tokens, %v", len(keys), len(tokens), err)
	}
	if _, err := c.store.Token(ctx, token.Hash(), time.Now()); err != nil {
		t.Errorf("the token: %v", err)
	}
	_, made, err := c.store.Enrol(ctx, time.Now(), store.EnrolParams{Secret: enrol.Secret(key).Hash(), Name: "a", Keys: wire.Keys{Identity: wire.IdentityKey{1}, Signature: []byte{1}}})
	if err != nil || !made {
		t.Errorf("the key does not enrol: %v", err)
	}
}

const childDir = "ENCLAVE_TEST_FIRST_START"

// TestFirstStartChild is the process that TestFirstStartKilledBetween kills.
func TestFirstStartChild(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("is run by another test")
	}
	c, err := openHere(t, dir, func(f *First) error {
		return store.ReplaceWith(filepath.Join(dir, "admin.token"), func(to *os.File) error {
			_, err := to.WriteString(f.Token)
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("\nshown " + c.EnrolmentKey() + "\n")
	c.Run(t.Context())
}

// TestFirstStartKilledBetween kills first starts at any instant: a key that was shown is
// shown by the next start, and enrols; the token that was kept is in force.
func TestFirstStartKilledBetween(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	start := func(dir string) (*exec.Cmd, *bufio.Scanner) {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestFirstStartChild$")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return cmd, bufio.NewScanner(out)
	}
	shown := func(lines *bufio.Scanner) string {
		for lines.Scan() {
			if key, ok := strings.CutPrefix(lines.Text(), "shown "); ok {
				return key
			}
		}
		return ""
	}
	began := time.Now()
	cmd, lines := start(filepath.Join(t.TempDir(), "state"))
	if shown(lines) == "" {
		t.Fatal("no key is shown")
	}
	takes := time.Since(began)
	cmd.Process.Kill()
	cmd.Wait()
	seen, unseen := 0, 0
	for range 12 {
		dir, last := filepath.Join(t.TempDir(), "state"), ""
		for range 2 {
			cmd, lines := start(dir)
			time.Sleep(takes/4 + rand.N(takes*5/4)) // any instant will do
			cmd.Process.Kill()
			key := shown(lines)
			cmd.Wait()
			if last != "" && key != "" && key != last {
				t.Errorf("one start showed %s, the next %s", last, key)
			}
			// One start says little of how long the next takes on a busy machine: who came too
			// late comes earlier, and who came too early later.
			if last = cmp.Or(key, last); key == "" {
				unseen, takes = unseen+1, takes*4/3
			} else {
				seen, takes = seen+1, takes*3/4
			}
		}
		var first *First
		c, err := openHere(t, dir, func(f *First) error { first = f; return nil })
		if err != nil {
			t.Error(err)
			continue
		}
		if last != "" && c.EnrolmentKey() != last {
			t.Errorf("%s was shown, the next start shows %s", last, c.EnrolmentKey())
		}
		var token admin.Token
		if first != nil {
			token = admin.Token(first.Token)
		} else if b, err := os.ReadFile(filepath.Join(dir, "admin.token")); err == nil {
			token = admin.Token(b)
		}
		wantFirst(t, c, c.EnrolmentKey(), token)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if seen == 0 || unseen == 0 {
		t.Errorf("%d starts were killed after they had shown a key, %d before", seen, unseen)
	}
	t.Logf("%d starts were killed after they had shown a key, %d before", seen, unseen)
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
