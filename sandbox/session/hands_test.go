package session

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"testing"

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
