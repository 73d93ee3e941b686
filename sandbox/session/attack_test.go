package session

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"enclave/sandbox"
	"enclave/wire/envelope"
)

// The tokens of thieves: of alice's tenant, of another with her name, and of strangers.
const (
	carolToken = "carol-token-0123456789"
	twinToken  = "twin-token-01234567890"
)

func withThieves(t *testing.T, change func(*Config)) func(*Config) {
	tok, err := ParseTokens([]byte(aliceToken + " alice@lab\n" + bobToken + " bob@lab\n" + carolToken + " carol@elsewhere\n" + twinToken + " alice@elsewhere\n"))
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) {
		c.Tokens = tok
		if change != nil {
			change(c)
		}
	}
}

var thieves = map[string]string{"a user of the tenant": bobToken, "another tenant": carolToken, "the name in another tenant": twinToken,
	"no token": "", "a part of the token": aliceToken[:21], "the token and more": aliceToken + "x"}

// TestNobodyReachesAnothersSession asks for a session that runs, and for one that has
// ended, in every way that there is. Whoever may not have it is told what is told of one
// that never was, and the run goes on.
func TestNobodyReachesAnothersSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, func(ctx context.Context, spec sandbox.Spec, b sandbox.Broker) sandbox.Result {
			b.Output(sandbox.Line{Stream: sandbox.StreamOut, Text: "the loot"})
			if spec.Source == "ends" {
				return sandbox.Result{OK: true, Value: json.RawMessage(`"the loot"`)}
			}
			<-ctx.Done()
			return sandbox.Result{Error: sandbox.Errorf(sandbox.CodeCancelled, "ended")}
		}, withThieves(t, nil))
		h := s.Handler()
		begin := func(code string) (in Info) {
			w := do(t, h, "POST", "/sessions", aliceToken, `{"code":"`+code+`"}`, "Accept", "application/json")
			if err := json.Unmarshal(w.Body.Bytes(), &in); err != nil || w.Code != 201 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			return in
		}
		runs, ended := begin("runs"), begin("ends")
		synctest.Wait()
		none := "s_00000000-0000-4000-8000-000000000000"
		for who, token := range thieves {
			for _, in := range []Info{runs, ended} {
				for _, one := range []struct {
					method, path string
					headers      []string
				}{
					{"GET", "/sessions/ID", nil},
					{"GET", "/sessions/ID/stream", nil},
					{"GET", "/sessions/ID/stream?fromSeq=2", nil},
					{"GET", "/sessions/ID/stream?fromSeq=4611686018427387903", nil},
					{"GET", "/sessions/ID/stream?fromSeq=x", nil},
					{"GET", "/sessions/ID/stream?filter=stdout", nil},
					{"GET", "/sessions/ID/stream", []string{"Accept", "text/event-stream", "Last-Event-ID", "1"}},
					{"POST", "/sessions/ID/cancel", nil},
					{"DELETE", "/sessions/ID", nil},
				} {
					got := do(t, h, one.method, strings.Replace(one.path, "ID", in.ID, 1), token, "", one.headers...)
					want := do(t, h, one.method, strings.Replace(one.path, "ID", none, 1), token, "", one.headers...)
					if got.Code != want.Code || got.Body.String() != want.Body.String() || got.Code/100 != 4 {
						t.Errorf("%s: %s %s: %d %s\nand one that never was: %d %s", who, one.method, one.path, got.Code, got.Body, want.Code, want.Body)
					}
				}
			}
			if w := do(t, h, "GET", "/sessions", token, ""); strings.Contains(w.Body.String(), runs.ID) || strings.Contains(w.Body.String(), runs.Run) {
				t.Errorf("%s sees %s", who, w.Body)
			}
		}
		// What names no session exactly is none, for its owner too.
		for _, id := range []string{strings.ToUpper(runs.ID), runs.ID[:len(runs.ID)-1], runs.ID + "0", runs.Run, "%20" + runs.ID, runs.ID + "%00", strings.TrimPrefix(runs.ID, "s_")} {
			if w := do(t, h, "GET", "/sessions/"+id, aliceToken, ""); w.Code != 404 {
				t.Errorf("%s: %d %s", id, w.Code, w.Body)
			}
		}
		synctest.Wait()
		if w := do(t, h, "GET", "/sessions/"+runs.ID, aliceToken, ""); !strings.Contains(w.Body.String(), `"running"`) {
			t.Errorf("after the attacks: %s", w.Body)
		}
		// A number beyond the end of a log that has ended is its end.
		if w := do(t, h, "GET", ended.StreamURL+"?fromSeq=4611686018427387903", aliceToken, ""); w.Code != 200 || w.Body.Len() != 0 {
			t.Errorf("from beyond the end: %d %q", w.Code, w.Body)
		}
		do(t, h, "DELETE", "/sessions/"+ended.ID, aliceToken, "")
		before := do(t, h, "GET", ended.StreamURL, aliceToken, "").Body.String()
		if !strings.Contains(before, `"result":"the loot"`) || strings.Contains(before, "CANCELLED") {
			t.Errorf("cancelling what has ended changes it: %s", before)
		}
		time.Sleep(s.cfg.Limits.Retention)
		s.forget(time.Now())
		if w := do(t, h, "GET", ended.StreamURL, aliceToken, ""); w.Code != 404 {
			t.Errorf("after its time: %d %s", w.Code, w.Body)
		}
	})
}

// TestASealedRequestIsNobodyElses has a thief who saw a sealed request on its way.
func TestASealedRequestIsNobodyElses(t *testing.T) {
	_, identity, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	runs := 0
	s := server(t, func(context.Context, sandbox.Spec, sandbox.Broker) sandbox.Result {
		runs++
		return sandbox.Result{OK: true, Value: json.RawMessage(`"the loot"`)}
	}, withThieves(t, func(c *Config) { c.Identity = identity })).Handler()
	seal := func(token, code string) string {
		c, err := envelope.NewClient()
		if err != nil {
			t.Fatal(err)
		}
		hello, _ := json.Marshal(c.Hello)
		var w envelope.Welcome
		if err := json.Unmarshal(do(t, s, "POST", "/handshake", token, string(hello)).Body.Bytes(), &w); err != nil {
			t.Fatal(err)
		}
		sealer, _, err := c.Finish(&w, identity.Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		box, seq, err := sealer.Seal(TypeSealed, []byte(`{"code":"`+code+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(Create{Sealed: &SealedRequest{w.Session, seq, box}})
		return string(text)
	}
	stolen, other := seal(aliceToken, "return 1"), seal(carolToken, "return 2")
	for who, token := range thieves {
		if w := do(t, s, "POST", "/sessions", token, stolen); w.Code/100 != 4 {
			t.Errorf("%s begins alice's session: %d %s", who, w.Code, w.Body)
		}
	}
	// The box of one handshake under the name of another.
	var a, b Create
	json.Unmarshal([]byte(stolen), &a)
	json.Unmarshal([]byte(other), &b)
	b.Sealed.Box = a.Sealed.Box
	spliced, _ := json.Marshal(b)
	if w := do(t, s, "POST", "/sessions", carolToken, string(spliced)); w.Code != http.StatusForbidden {
		t.Errorf("a box of another session: %d %s", w.Code, w.Body)
	}
	if runs != 0 {
		t.Fatalf("%d runs were begun by thieves", runs)
	}
	w := do(t, s, "POST", "/sessions", aliceToken, stolen)
	if w.Code != 200 || runs != 1 {
		t.Fatalf("alice's own: %d %s", w.Code, w.Body)
	}
	if w := do(t, s, "POST", "/sessions", aliceToken, stolen); w.Code != http.StatusForbidden || runs != 1 {
		t.Errorf("her request again: %d, %d runs", w.Code, runs)
	}
	// Its events are sealed once: what is replayed is what was sent, byte for byte.
	again := do(t, s, "GET", w.Header().Get("Location")+"/stream", aliceToken, "").Body.String()
	if again != w.Body.String() || strings.Contains(again, "the loot") || again == "" {
		t.Errorf("replayed:\n%s\nsent:\n%s", again, w.Body)
	}
}

// TestOneTenantForgetsNoOthersEvents: two tenants that start without end keep a third
// one's log where it is.
func TestOneTenantForgetsNoOthersEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := server(t, one, withThieves(t, func(c *Config) { c.Limits.Sessions, c.Limits.PerTenant = 6, 5 })).Handler()
		first := eventsOf(t, do(t, h, "POST", "/sessions", aliceToken, `{"code":"1"}`).Body.String())[0].Session
		for range 20 {
			time.Sleep(time.Millisecond)
			if w := do(t, h, "POST", "/sessions", carolToken, `{"code":"1"}`); w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		time.Sleep(time.Millisecond)
		second := eventsOf(t, do(t, h, "POST", "/sessions", aliceToken, `{"code":"1"}`).Body.String())[0].Session
		for i, id := range []string{first, second} {
			if w := do(t, h, "GET", "/sessions/"+id+"/stream", aliceToken, ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"final"`) {
				t.Errorf("alice's session %d: %d %.200s", i+1, w.Code, w.Body)
			}
		}
	})
}

// TestAFilterIsCheap: patterns are looked for in every event of every stream.
func TestAFilterIsCheap(t *testing.T) {
	pattern := `{"type":"regex","pattern":"(a?){300}b","field":"payload.chunk"}`
	rule := func(n int) string {
		return `{"content":{"patterns":[` + strings.Repeat(pattern+",", n-1) + pattern + `]}}`
	}
	for _, tc := range []struct {
		text string
		ok   bool
	}{
		{`{"mode":"include","rules":[` + rule(20) + `]}`, true},
		{`{"mode":"include","rules":[` + rule(10) + `,` + rule(10) + `]}`, true},
		{`{"mode":"include","rules":[` + rule(21) + `]}`, false},
		{`{"mode":"include","rules":[` + rule(11) + `,` + rule(10) + `]}`, false},
	} {
		if _, err := ParseFilter(tc.text); (err == nil) != tc.ok {
			t.Errorf("%.200s…: %v", tc.text, err)
		}
	}
	f, err := ParseFilter(`{"mode":"include","rules":[` + rule(1) + `]}`)
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(StdoutPayload{strings.Repeat("a", maxFilterValue) + "b"})
	if f.Passes(Event{Type: TypeStdout, Payload: payload}) {
		t.Error("a pattern was looked for in a value that is too long")
	}
}

// TestWhoIsCutOffMissesNothing: an EventSource goes on after the last number that it was
// told, so the word about a removed token must not have a higher one.
func TestWhoIsCutOffMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, one, nil)
		id := eventsOf(t, do(t, s.Handler(), "POST", "/sessions", aliceToken, `{"code":"1"}`).Body.String())[0].Session
		gone, cut := context.WithCancel(t.Context())
		cut()
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.Header.Set("Accept", "text/event-stream")
		for from, want := range map[uint64]string{1: "id: 0\nevent: error\n", 4: "id: 3\nevent: error\n"} {
			w := httptest.NewRecorder()
			s.stream(w, r, &bearer{held: gone}, s.sessions[id], from, nil)
			if !strings.HasPrefix(w.Body.String(), want) || !strings.Contains(w.Body.String(), "TOKEN_REMOVED") {
				t.Errorf("from %d: %q", from, w.Body)
			}
		}
	})
}
