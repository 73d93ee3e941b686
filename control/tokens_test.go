package control

import (
	"net/http"
	"testing"
	"time"

	"enclave/control/admin"
	"enclave/store"
	"enclave/wire/api"
)

func (w *world) tokenWith(scopes ...string) admin.Token {
	w.t.Helper()
	token := admin.NewToken()
	_, err := w.store.CreateToken(w.t.Context(), at(time.Now()), store.TokenParams{Name: "t", Scopes: scopes, Secret: token.Hash()})
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

func TestTokensAreThrottledByAddress(t *testing.T) {
	w := newWorld(t)
	try := func(token string) *api.Problem {
		_, p := do(t, w.calls, "GET", "https://"+w.addr+admin.Prefix+"/whoami", http.Header{"Authorization": {"Bearer " + token}}, nil, nil)
		return p
	}
	w.api("GET", "/whoami", nil, nil) // the good token has worked
	fresh := w.tokenWith("read")
	for range 20 {
		if p := try("enctok_wrong"); p == nil {
			t.Fatal("a wrong token is accepted")
		}
	}
	if p := try("enctok_wrong"); p.Status != http.StatusTooManyRequests || p.Code != api.CodeTryAgain {
		t.Errorf("after 20 wrong tokens: %+v", p)
	}
	if p := try(string(fresh)); p == nil || p.Status != http.StatusTooManyRequests {
		t.Errorf("a token never seen from a throttled address: %+v", p)
	}
	if p := try(string(w.token)); p != nil {
		t.Errorf("others' mistakes lock out a token that works: %v", p)
	}
}

func TestEndedTokensAreRefused(t *testing.T) {
	w := newWorld(t)
	w.api("GET", "/whoami", nil, nil)
	good, then := w.token, time.Now().Add(-time.Hour)
	w.token = admin.NewToken()
	_, err := w.store.CreateToken(t.Context(), at(then), store.TokenParams{Name: "old", Scopes: []string{"admin"}, ExpiresAt: then.Add(time.Minute), Secret: w.token.Hash()})
	if err != nil {
		t.Fatal(err)
	}
	if _, p := w.tryAPI("GET", "/whoami", nil, nil); p == nil || p.Code != api.CodeUnauthorised {
		t.Errorf("an expired token: %+v", p)
	}
	w.token = good
	w.api("GET", "/whoami", nil, nil)
	list, err := w.store.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range list {
		if err := w.store.RevokeToken(t.Context(), at(time.Now()), tok.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, p := w.tryAPI("GET", "/whoami", nil, nil); p == nil || p.Code != api.CodeUnauthorised {
		t.Errorf("a deleted token: %+v", p)
	}
}
