package session

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
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

// TestAHandshakeEnds: what was agreed and not used is of no use to whoever finds it later.
func TestAHandshakeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, identity, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		s := server(t, one, func(c *Config) { c.Identity = identity }).Handler()
		for wait, want := range map[time.Duration]int{handshakeLife: http.StatusOK, handshakeLife + 1: http.StatusForbidden} {
			c, err := envelope.NewClient()
			if err != nil {
				t.Fatal(err)
			}
			hello, _ := json.Marshal(c.Hello)
			var w envelope.Welcome
			if err := json.Unmarshal(do(t, s, "POST", "/handshake", aliceToken, string(hello)).Body.Bytes(), &w); err != nil {
				t.Fatal(err)
			}
			sealer, _, err := c.Finish(&w, identity.Public().(ed25519.PublicKey))
			if err != nil {
				t.Fatal(err)
			}
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
