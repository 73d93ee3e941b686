package control

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"enclave/control/admin"
	"enclave/store"
	"enclave/wire/api"
)

// TestFollowersEndWithTheirToken follows the activity with a token that is revoked, and
// with one that expires.
func TestFollowersEndWithTheirToken(t *testing.T) {
	inBubble(t, store.DefaultSettings(), func(t *testing.T, w *world) {
		follow := func(name string, expires time.Time) (store.Token, *bufio.Scanner) {
			secret := admin.NewToken()
			token, err := w.store.CreateToken(t.Context(), at(time.Now()), store.TokenParams{Name: name, Scopes: []string{"admin"}, ExpiresAt: expires, Secret: secret.Hash()})
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+w.addr+admin.Prefix+"/activity/stream", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+string(secret))
			resp, err := w.client(nil).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { resp.Body.Close() })
			return token, bufio.NewScanner(resp.Body)
		}
		rest := func(lines *bufio.Scanner) (text string) {
			for n := 0; n < 20 && lines.Scan(); n++ { // a blank line each 15 seconds
				text += lines.Text()
			}
			return text
		}
		token, lines := follow("revoked", time.Time{})
		w.key(api.KeyCreate{Name: "one"})
		for lines.Scan() && !strings.Contains(lines.Text(), "key.create") {
		}
		if err := w.store.RevokeToken(t.Context(), at(time.Now()), token.ID); err != nil {
			t.Fatal(err)
		}
		w.key(api.KeyCreate{Name: "two"})
		if got := rest(lines); got != "" {
			t.Errorf("a revoked token hears %s", got)
		}
		begin := time.Now()
		token, lines = follow("idle", time.Time{})
		if err := w.store.RevokeToken(t.Context(), at(time.Now()), token.ID); err != nil {
			t.Fatal(err)
		}
		if rest(lines); time.Since(begin) > 15*time.Second {
			t.Errorf("a revoked token hears nothing for %v", time.Since(begin))
		}
		begin = time.Now()
		_, lines = follow("short", begin.Add(100*time.Second))
		if rest(lines); time.Since(begin) != 100*time.Second {
			t.Errorf("a token of 100s is good for %v", time.Since(begin))
		}
		// A terminal that is open must not hold up a server that goes down.
		begin = time.Now()
		_, lines = follow("at the end", time.Time{})
		w.srv.hub.stop()
		if rest(lines); time.Since(begin) != 0 {
			t.Errorf("a server that ends waits %v for a follower", time.Since(begin))
		}
	})
}
