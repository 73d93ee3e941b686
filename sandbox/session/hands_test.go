package session

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"enclave/wire/envelope"
)

// TestGreetingsAreEachTenantsOwn: whoever greets without end keeps nobody else from
// beginning a sealed session.
func TestGreetingsAreEachTenantsOwn(t *testing.T) {
	_, identity, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	const otherToken = "other-token-0123456789"
	tok, err := ParseTokens([]byte(aliceToken + " alice@lab\n" + otherToken + " carol@elsewhere\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := server(t, one, func(c *Config) { c.Identity, c.Tokens = identity, tok }).Handler()
	greet := func(token string) int {
		c, err := envelope.NewClient()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(c.Hello)
		if err != nil {
			t.Fatal(err)
		}
		return do(t, s, "POST", "/handshake", token, string(raw)).Code
	}
	for i := range 2 * maxTenantHands {
		want := http.StatusOK
		if i >= maxTenantHands {
			want = http.StatusTooManyRequests
		}
		if got := greet(aliceToken); got != want {
			t.Fatalf("greeting %d: status %d, want %d", i, got, want)
		}
	}
	if got := greet(otherToken); got != http.StatusOK {
		t.Errorf("another tenant: status %d", got)
	}
}

// shakeHands agrees with a server on the keys of a session.
func shakeHands(t *testing.T, s http.Handler, identity ed25519.PrivateKey) (w envelope.Welcome, _ *envelope.Sealer, _ *envelope.Opener) {
	t.Helper()
	c, err := envelope.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	hello, err := json.Marshal(c.Hello)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(do(t, s, "POST", "/handshake", aliceToken, string(hello)).Body.Bytes(), &w); err != nil {
		t.Fatal(err)
	}
	sealer, opener, err := c.Finish(&w, identity.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return w, sealer, opener
}

// TestAHandshakeEnds: what was agreed and not used is of no use to whoever finds it later.
func TestAHandshakeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, identity, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		s := server(t, one, func(c *Config) { c.Identity = identity }).Handler()
		for wait, want := range map[time.Duration]int{handshakeLife: http.StatusOK, handshakeLife + 1: http.StatusForbidden} {
			w, sealer, _ := shakeHands(t, s, identity)
			box, seq, err := sealer.Seal(TypeSealed, []byte(`{"code":"1"}`))
			if err != nil {
				t.Fatal(err)
			}
			text, _ := json.Marshal(Create{Sealed: &SealedRequest{w.Session, seq, box}})
			time.Sleep(wait)
			if got := do(t, s, "POST", "/sessions", aliceToken, string(text)); got.Code != want {
				t.Errorf("used after %s: %d %s", wait, got.Code, got.Body)
			}
		}
	})
}

// TestAHandshakeServesOnce: a second request under its keys, whole and in order, begins
// nothing; nor does one within another. What it began is its own session, all of it sealed.
func TestAHandshakeServesOnce(t *testing.T) {
	_, identity, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := server(t, one, func(c *Config) { c.Identity, c.Sealed = identity, true }).Handler()
	// greet returns how to send a text, and how to read an event.
	greet := func() (id string, send func(text string) *httptest.ResponseRecorder, open func(Event) string) {
		w, sealer, opener := shakeHands(t, s, identity)
		send = func(text string) *httptest.ResponseRecorder {
			box, seq, err := sealer.Seal(TypeSealed, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			body, _ := json.Marshal(Create{Sealed: &SealedRequest{w.Session, seq, box}})
			return do(t, s, "POST", "/sessions", aliceToken, string(body))
		}
		return w.Session, send, func(e Event) string {
			var box envelope.Box
			if err := json.Unmarshal(e.Payload, &box); err != nil {
				t.Fatal(err)
			}
			text, err := opener.Open(box, e.Seq, e.Type)
			if err != nil {
				t.Error(err)
			}
			return string(text)
		}
	}
	id, send, open := greet()
	w := send(`{"code":"1"}`)
	list := eventsOf(t, w.Body.String())
	if w.Code != 200 || len(list) != 5 || list[0].Session != id || w.Header().Get("Location") != "/sessions/"+id {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for i, want := range []string{`"encryption":{"enabled":true,"keyId":"1"}`, `"chunk":"hello`, `"toolName":"users:list"`, `"ok":true`, `"result":{"items":[1,2,3]}`} {
		if text := open(list[i]); list[i].Type != TypeSealed || !strings.Contains(text, want) {
			t.Errorf("event %d is %s %s, want %s", i, list[i].Type, text, want)
		}
	}
	if w := send(`{"code":"1"}`); w.Code != http.StatusForbidden {
		t.Errorf("a second request: %d %s", w.Code, w.Body)
	}
	_, send, _ = greet()
	if w := send(`{"sealed":{"sessionId":"s_1","seq":1,"payload":{}}}`); w.Code != http.StatusBadRequest {
		t.Errorf("sealed within sealed: %d %s", w.Code, w.Body)
	}
	_, send, _ = greet()
	if w := send(`{"code":"1","more":1}`); w.Code != http.StatusBadRequest {
		t.Errorf("what is no request: %d %s", w.Code, w.Body)
	}
	if w := do(t, s, "POST", "/sessions", aliceToken, `{"code":"1"}`); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "ENCRYPTION_REQUIRED") {
		t.Errorf("in the clear: %d %s", w.Code, w.Body)
	}
	if w := do(t, s, "POST", "/handshake", aliceToken, `{"more":1}`); w.Code != http.StatusBadRequest {
		t.Errorf("a greeting that is none: %d %s", w.Code, w.Body)
	}
	if w := do(t, server(t, one, nil).Handler(), "POST", "/handshake", aliceToken, `{}`); w.Code != http.StatusNotFound {
		t.Errorf("a server without an identity: %d %s", w.Code, w.Body)
	}
}
