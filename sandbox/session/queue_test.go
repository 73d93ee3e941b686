package session

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"enclave/sandbox"
)

// TestRunsTakeTurns: so many at once, of all and of one tenant; who waits is let in in the
// order in which they came, a tenant that waits for itself holds nobody up, and who gives up
// leaves its place.
func TestRunsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &Queue{All: 3, Tenant: 2, Waiting: 1}
		in := make(chan string, 9)
		leave := make(map[string]func())
		enter := func(ctx context.Context, name string) {
			go func() {
				l, err := q.Enter(ctx, name[:1])
				switch {
				case errors.Is(err, ErrFull):
					in <- name + " is refused"
				case err != nil:
					in <- name + " has gone"
				default:
					in <- name
					<-ctx.Done()
					l()
				}
			}()
			synctest.Wait()
		}
		expect := func(want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for len(in) > 0 {
				got = append(got, <-in)
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
		begin := func(name string) {
			ctx, cancel := context.WithCancel(t.Context())
			leave[name] = cancel
			enter(ctx, name)
		}
		for _, name := range []string{"a1", "a2"} {
			begin(name)
			expect(name)
		}
		if q.Full("a") || q.Full("b") {
			t.Error("full before anybody waits")
		}
		begin("a3")
		expect() // a has its part
		if !q.Full("a") || q.Full("b") {
			t.Errorf("full for a: %t, for b: %t", q.Full("a"), q.Full("b"))
		}
		begin("a4")
		expect("a4 is refused")
		begin("b1")
		expect("b1")
		begin("b2")
		begin("c1")
		expect() // all places are taken
		leave["b1"]()
		expect("b2") // and not a3, which came before and waits for itself
		leave["a1"]()
		expect("a3") // and not c1, which came later
		begin("d1")
		leave["c1"]()
		expect("c1 has gone")
		leave["a2"]()
		expect("d1")
		for _, name := range []string{"a3", "b2", "d1"} {
			leave[name]()
		}
		synctest.Wait()
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.total != 0 || len(q.running) != 0 || len(q.line) != 0 {
			t.Errorf("%d run, %v, %d wait", q.total, q.running, len(q.line))
		}
	})
}

// TestWhatIsOverIsForgotten after its time and not before; what goes on never is.
func TestWhatIsOverIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, identity, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		s := server(t, func(ctx context.Context, _ sandbox.Spec, _ sandbox.Broker) sandbox.Result {
			<-ctx.Done()
			return sandbox.Result{Error: sandbox.Errorf(sandbox.CodeCancelled, "ended")}
		}, func(c *Config) { c.Identity = identity })
		h := s.Handler()
		w := do(t, h, "POST", "/sessions", aliceToken, `{"code":"1"}`, "Accept", "application/json")
		var made struct {
			ID string `json:"sessionId"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &made); err != nil || made.ID == "" || w.Code != 201 {
			t.Fatalf("%d %s, %v", w.Code, w.Body, err)
		}
		known := func(want bool) {
			t.Helper()
			if w := do(t, h, "GET", "/sessions/"+made.ID, aliceToken, ""); (w.Code == 200) != want {
				t.Errorf("known: %t, want %t", w.Code == 200, want)
			}
		}
		retention := s.cfg.Limits.Retention
		s.forget(time.Now().Add(100 * retention))
		known(true)
		if w := do(t, h, "DELETE", "/sessions/"+made.ID, aliceToken, ""); w.Code >= 300 && !strings.Contains(w.Body.String(), "ended") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		synctest.Wait()
		s.forget(time.Now().Add(retention - 1))
		known(true)
		s.forget(time.Now().Add(retention))
		known(false)
		shakeHands(t, h, identity)
		hands := func() int {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.hands)
		}
		s.forget(time.Now().Add(handshakeLife))
		if hands() != 1 {
			t.Error("a handshake is forgotten while it can be used")
		}
		if s.forget(time.Now().Add(handshakeLife + 1)); hands() != 0 {
			t.Error("a handshake is remembered after its end")
		}
	})
}

// TestRoomIsMadeByWhoHoldsMost: a tenant over its own number forgets what is its own, and
// else the oldest goes of whoever has the most, not the oldest of all.
func TestRoomIsMadeByWhoHoldsMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const dave = "dave-token-0123456789012"
		const carol = "carol-token-012345678901"
		tok, err := ParseTokens([]byte(aliceToken + " alice@lab\n" + carol + " carol@elsewhere\n" + dave + " dave@third\n"))
		if err != nil {
			t.Fatal(err)
		}
		h := server(t, one, func(c *Config) {
			c.Tokens = tok
			c.Limits = Limits{Sessions: 4, PerTenant: 2, Running: 9, TenantRuns: 9, Waiting: 9}
		}).Handler()
		ids := make(map[string]string)
		run := func(name, token string) {
			t.Helper()
			list := eventsOf(t, do(t, h, "POST", "/sessions", token, `{"code":"1"}`).Body.String())
			if len(list) == 0 {
				t.Fatalf("%s does not begin", name)
			}
			ids[name] = list[0].Session
			synctest.Wait()
			time.Sleep(time.Second)
		}
		known := func(want string) {
			t.Helper()
			var got []string
			for name, id := range ids {
				token := map[byte]string{'a': aliceToken, 'c': carol, 'd': dave}[name[0]]
				if do(t, h, "GET", "/sessions/"+id, token, "").Code == 200 {
					got = append(got, name)
				}
			}
			if slices.Sort(got); strings.Join(got, " ") != want {
				t.Errorf("there are %s, want %s", got, want)
			}
		}
		run("c1", carol)
		run("a1", aliceToken)
		run("a2", aliceToken)
		known("a1 a2 c1")
		run("a3", aliceToken)
		known("a2 a3 c1") // its own oldest, not the oldest of all
		run("d1", dave)
		known("a2 a3 c1 d1")
		run("d2", dave)
		known("a3 c1 d1 d2") // of the tenant that has most
	})
}
