package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"enclave/control/admin"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// pipes is a network of one machine: what is dialled is accepted, in memory, so that
// it works in a bubble.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	ended chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), ended: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.ended) }); return nil }
func (p *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// outage is a machine that loses its power: from then on nothing comes out of its
// connections and nothing goes in, and nobody is told.
type outage struct {
	on   atomic.Bool
	over chan struct{} // closed at the end of the test, so that its goroutines end
}

type frozen struct {
	net.Conn
	o *outage
}

func (f frozen) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if f.o.on.Load() {
		<-f.o.over
		return 0, net.ErrClosed
	}
	return n, err
}

func (f frozen) Write(b []byte) (int, error) {
	if f.o.on.Load() {
		<-f.o.over
		return 0, net.ErrClosed
	}
	return f.Conn.Write(b)
}

// Close says nothing to the other end while the power is off.
func (f frozen) Close() error {
	if f.o.on.Load() {
		return nil
	}
	return f.Conn.Close()
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.ended:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inBubble runs f against a server whose clock is the bubble's.
func inBubble(t *testing.T, settings store.Settings, f func(t *testing.T, w *world)) {
	bubbleOn(t, t.TempDir()+"/state", settings, f)
}

// bubbleOn is inBubble on a state that may be there from another bubble; time begins anew
// in each.
func bubbleOn(t *testing.T, dir string, settings store.Settings, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Init(t.Context(), st, at(time.Now()), "test", settings); err != nil && !errors.Is(err, store.ErrConflict) {
			t.Fatal(err)
		}
		w := &world{t: t, dir: dir, store: st, addr: "pipe", token: admin.NewToken(), net: newPipes()}
		_, err = st.CreateToken(t.Context(), at(time.Now()), store.TokenParams{Name: "root", Scopes: []string{"admin"}, Secret: w.token.Hash()})
		if err != nil {
			t.Fatal(err)
		}
		w.srv, err = New(t.Context(), Config{Store: st, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.srv.Run(ctx, w.net) }()
		defer func() { // also when f fails: no goroutine may outlive the bubble
			w.hangUp()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			w.hangUp()
			if err := st.Close(); err != nil {
				t.Error(err)
			}
		}()
		f(t, w)
	})
}

func TestActiveHoursOpenAndClose(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		// The bubble begins on Saturday 2000-01-01 00:00 UTC.
		p := direct("mesh", "mesh")
		p.ActiveHours = wire.Windows{{Zone: "UTC", Days: []string{"sat"}, Start: "09:00", End: "17:00"}}
		w.api("POST", "/policies", p, nil)
		key := w.key(automatic("mesh"))
		a, b := w.machine(), w.machine()
		a.enrol(key.Secret, "a")
		b.enrol(key.Secret, "b")
		fa := a.stream()
		if len(fa.Map.Peers) != 0 {
			t.Fatal("open before its hours")
		}
		rev := fa.Map.Revision
		fa.delta()
		if now := time.Now(); now.Hour() != 9 || now.Minute() != 0 || len(fa.Map.Peers) != 1 || fa.Map.Revision != rev {
			t.Errorf("at %s: %+v", now, fa.Map)
		}
		if g := fa.Map.Peers[0].Grants[0]; g.NotAfter.Hour() != 17 {
			t.Errorf("the grant does not carry its end: %+v", g)
		}
		for len(fa.Map.Peers) == 1 {
			fa.delta()
		}
		if now := time.Now(); now.Hour() != 17 || now.Minute() != 0 {
			t.Errorf("closed at %s", now)
		}
	})
}

func TestHeartbeatsExtendTheMapAndTicketsAreRenewed(t *testing.T) {
	settings := store.DefaultSettings()
	settings.MapLife = time.Hour
	inBubble(t, settings, func(t *testing.T, w *world) {
		_, _, fa, _ := pairOf(t, w)
		begin, ticket := time.Now(), fa.Map.Peers[0].Ticket
		if !fa.Map.ValidUntil.Equal(begin.Add(time.Hour)) {
			t.Fatalf("valid until %s", fa.Map.ValidUntil)
		}
		for beats := 1; ; beats++ {
			msg := fa.next()
			if msg.Delta != nil {
				break
			}
			if now := time.Now(); msg.Heartbeat == nil || !now.Equal(begin.Add(time.Duration(beats)*wire.HeartbeatEvery)) || !fa.Map.ValidUntil.Equal(now.Add(time.Hour)) {
				t.Fatalf("beat %d at %s: %+v", beats, time.Since(begin), msg)
			}
		}
		if waited := time.Since(begin); waited > 30*time.Minute { // pairs take turns
			t.Errorf("the ticket was renewed after %s", waited)
		}
		if bytes.Equal(fa.Map.Peers[0].Ticket, ticket) {
			t.Error("the delta brought no new ticket")
		}
	})
}

func TestTheStreamEndsWithItsCertificate(t *testing.T) {
	settings := store.DefaultSettings()
	settings.SVIDLife = 10 * time.Minute
	inBubble(t, settings, func(t *testing.T, w *world) {
		begin := time.Now()
		a, _, fa, _ := pairOf(t, w)
		if bye := fa.bye(); bye.Code != wire.ByeRestart {
			t.Errorf("bye %+v", bye)
		}
		if lived := time.Since(begin); lived != settings.SVIDLife {
			t.Errorf("after %s", lived)
		}
		time.Sleep(time.Hour) // a laptop slept
		if p := a.call("POST", wire.PathReport, wire.Report{}, nil); p == nil || p.Code != api.CodeForbidden {
			t.Errorf("an ended certificate reports: %+v", p)
		}
		var resp wire.RenewResponse
		if p := a.call("POST", wire.PathRenew, wire.RenewRequest{Now: time.Now()}, &resp); p != nil {
			t.Fatalf("it cannot renew: %v", p)
		}
		a.use(resp.SVID)
		a.stream()
	})
}

func TestExpiryActsAtItsInstant(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		_, _, fa, fb := pairOf(t, w)
		begin := time.Now()
		w.api("PATCH", "/systems/b", map[string]any{"expires_at": begin.Add(time.Hour), "expiry_action": "delete"}, nil)
		p := direct("mesh", "mesh")
		until := begin.Add(30 * time.Minute)
		p.Name, p.ExpiresAt = "second", &until
		var second api.Policy
		w.api("POST", "/policies", p, &second)
		for len(fa.Map.Peers[0].Grants) != 4 { // of two policies, each way
			fa.delta()
		}
		for len(fa.Map.Peers[0].Grants) != 2 {
			fa.delta()
		}
		if waited := time.Since(begin); waited != 30*time.Minute {
			t.Errorf("the policy ended after %s", waited)
		}
		synctest.Wait() // the cut comes first, the action follows
		w.api("GET", "/policies/"+string(second.ID), nil, &second)
		if second.Enabled || second.State != "disabled" {
			t.Errorf("the expired policy is %q, enabled %v", second.State, second.Enabled)
		}
		if bye := fb.bye(); bye.Code != wire.ByeRevoked || time.Since(begin) != time.Hour {
			t.Errorf("after %s: %+v", time.Since(begin), bye)
		}
		for len(fa.Map.Peers) > 0 {
			fa.delta()
		}
		if waited := time.Since(begin); waited != time.Hour {
			t.Errorf("the system went after %s", waited)
		}
		var log api.Page[api.Activity]
		w.api("GET", "/activity?limit=1000", nil, &log)
		var acts []string
		for _, a := range log.Items {
			if a.Actor == "expiry" {
				acts = append(acts, a.Action)
			}
		}
		if !slices.Equal(acts, []string{"policy.disable", "system.delete"}) {
			t.Errorf("actions %v", acts)
		}
	})
}

func TestEphemeralSystemsLapse(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		key := w.key(api.KeyCreate{Name: "run", Kind: store.Ephemeral, Retention: 600})
		m, never := w.machine(), w.machine()
		m.enrol(key.Secret, "run")
		never.enrol(key.Secret, "never")
		f := m.stream()
		time.Sleep(5 * time.Hour) // connected: it stays; never connected: it goes
		synctest.Wait()
		var list api.Page[api.System]
		w.api("GET", "/systems", nil, &list)
		if len(list.Items) != 1 || list.Items[0].ID != m.id {
			t.Fatalf("systems %+v", list.Items)
		}
		f.body.Close()
		time.Sleep(599 * time.Second)
		if _, err := w.store.System(t.Context(), m.id); err != nil {
			t.Errorf("gone too early: %v", err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if p := m.call("POST", wire.PathReport, wire.Report{}, nil); p == nil || p.Code != wire.ByeRevoked {
			t.Errorf("a lapsed system reports: %+v", p)
		}
	})
}

func TestVanishedAgentsCountAsGone(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		key := w.key(automatic("mesh"))
		a := w.machine()
		a.enrol(key.Secret, "a")
		power := &outage{over: make(chan struct{})}
		a.c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := w.net.dial(ctx, network, addr)
			return frozen{c, power}, err
		}
		f := a.stream()
		defer f.body.Close()
		defer close(power.over)
		time.Sleep(time.Minute)
		if _, ok := w.srv.hub.Live(a.id); !ok {
			t.Fatal("not connected to begin with")
		}
		power.on.Store(true)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if _, ok := w.srv.hub.Live(a.id); ok {
			t.Error("it still counts as connected")
		}
	})
}
